"""Stages that learn from texts: continued pre-training, and masked language models."""
