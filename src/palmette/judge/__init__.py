"""Judges: models that say which answer is better or how good one is, and how far people agree with them."""
