"""Models behind an OpenAI-compatible endpoint: a client for chat completions, and a decoder that asks it."""
