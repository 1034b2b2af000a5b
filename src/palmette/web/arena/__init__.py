"""The room of the arena."""
