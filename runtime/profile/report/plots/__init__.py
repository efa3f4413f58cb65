"""Plots of a profile as SVG inside HTML: drawn from the document alone, nothing is computed anew.

All are drawn as wide as a phone shows them, so text keeps its size there; wide screens lay them
side by side. ``drawing`` has the parts, each other module a kind of plot. Colors are classes that
the page's stylesheet fills in, light or dark; each is told apart by something else as well.
"""
