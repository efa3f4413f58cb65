"""Weights changed before quantization, so that it costs less."""
