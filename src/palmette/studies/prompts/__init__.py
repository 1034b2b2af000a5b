"""Prompts tried on the same questions, and a search for better ones."""
