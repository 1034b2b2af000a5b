"""Training: one thin module per stage over one shared step."""
