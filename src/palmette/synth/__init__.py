"""Making training data: rationales and preferences."""
