"""Stages that learn from comparisons and verdicts: reward models, DPO and KTO."""
