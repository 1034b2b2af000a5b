"""Completions sampled from a policy, rewarded, and arranged as prefix trees."""
