"""The page's parts, a file each: they know methods, sets and numbers, and nothing of where those came from.

A part returns its HTML, or nothing where its numbers are not known.
"""
