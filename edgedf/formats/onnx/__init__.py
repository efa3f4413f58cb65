"""ONNX: everything that knows the format, ONNX Runtime and its quantizer."""
