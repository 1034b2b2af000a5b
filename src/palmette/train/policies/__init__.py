"""Stages in which a policy learns from its own completions: GRPO and PPO."""
