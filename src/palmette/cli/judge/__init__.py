"""The commands for people who judge answers, and for models that do."""
