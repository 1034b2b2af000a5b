"""Recipes of the stages that have sections of their own."""
