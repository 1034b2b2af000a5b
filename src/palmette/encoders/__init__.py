"""Masked language models: their names, the energy of a text, and texts drawn by Metropolis-Hastings."""
