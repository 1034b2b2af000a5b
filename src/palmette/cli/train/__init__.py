"""The commands that train, and those that show what training reads."""
