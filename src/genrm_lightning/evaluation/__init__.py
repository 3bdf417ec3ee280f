"""Judgment tables turned into numbers with intervals, a report and a dashboard."""
