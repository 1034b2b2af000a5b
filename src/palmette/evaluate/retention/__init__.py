"""What fine-tuning cost on texts and prompts that have nothing to do with the task."""
