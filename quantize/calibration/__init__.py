"""Calibration: the images, the ranges that they give, and their audit."""
