"""From a source to proven files: ``edgedf convert``."""
