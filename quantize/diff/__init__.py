"""Two files compared: ``edgedf diff``."""
