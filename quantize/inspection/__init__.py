"""What a file is made of: operators, structure, size."""
