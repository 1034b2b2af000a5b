"""Tasks, which build prefix trees of records."""
