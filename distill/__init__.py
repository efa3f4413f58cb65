"""Training: physics defocus maps, data, the student, its losses and its evaluation."""
