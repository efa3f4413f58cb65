"""Which layers the error comes from: ``edgedf verify --layers``."""
