"""Sweeps train and measure one recipe under varied settings."""
