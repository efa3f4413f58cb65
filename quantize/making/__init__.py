"""One file from a float model, by a recipe."""
