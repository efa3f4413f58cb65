"""The shipped student: checkpoint, float exports and model card."""
