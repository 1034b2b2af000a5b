"""The commands that measure models, compare them, and say what they need."""
