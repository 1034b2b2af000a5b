"""Votes of people on pairs of answers, and rankings from them."""
