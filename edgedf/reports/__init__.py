"""Reports for people: tables with remarks, shown as an HTML page or as Markdown.

A stage puts its results into :class:`~edgedf.reports.section.Section` records and sentences. How
those look is decided here, and for the terminal in :mod:`edgedf.cli._tables`.
"""
