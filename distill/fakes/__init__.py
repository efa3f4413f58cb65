"""Training pictures made from real photographs: self-blended fakes, and reals in portrait mode."""
