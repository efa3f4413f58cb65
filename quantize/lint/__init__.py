"""Which layers int8 does not make fast, and what to use instead: ``edgedf convert --lint``."""
