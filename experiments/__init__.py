"""Research, run from a checkout: ``python -m experiments.NAME``; no part of the package."""
