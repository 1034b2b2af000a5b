"""Verdicts in the files of other annotation tools, and in our own."""
