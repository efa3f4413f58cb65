"""Defocus: estimated from one photograph (two profiles) and rendered with exact ground truth."""
