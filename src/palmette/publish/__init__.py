"""A finished run as a plain model folder, and on the Hugging Face hub."""
