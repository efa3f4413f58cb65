"""What quantization cost: parity, the accuracy gate, and who is to blame."""
