"""What is converted: the shipped student, a checkpoint, a float model, an ONNX of one's own."""
