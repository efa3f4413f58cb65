"""What will not survive int8, before it is tried: ``edgedf convert --lint``."""
