"""Models behind an OpenAI-compatible server: a client for chat completions, and a decoder that answers with it."""
