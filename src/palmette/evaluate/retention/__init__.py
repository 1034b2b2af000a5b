"""Measures how much fine-tuning changed a model on texts and prompts that have nothing to do with the task."""
