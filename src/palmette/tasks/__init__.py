"""Tasks: from a record to a prefix tree."""
