"""Float and quantized models as functions."""
