"""Evaluation of a checkpoint, and how it holds up under perturbations."""
