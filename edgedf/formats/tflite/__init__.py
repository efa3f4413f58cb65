"""TFLite: everything that knows the format, its runtime and its quantizer."""
