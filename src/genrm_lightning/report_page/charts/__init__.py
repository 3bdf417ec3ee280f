"""Charts as inline SVG that know nothing of judges: axes, lines, reliability, intervals, heat.

Colours are classes of the page's style (``m0``, ``m1``, ...: a series' place), so that a chart follows light and dark,
prints, and is the same for a series in every chart.
"""
