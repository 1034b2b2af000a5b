"""Records and readers: SQuAD v2 JSON, JSON Lines, the Hugging Face hub, and the built-in corpus."""
