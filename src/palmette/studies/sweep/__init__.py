"""One recipe trained and measured under varied settings."""
