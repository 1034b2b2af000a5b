"""Training data made with a teacher model."""
