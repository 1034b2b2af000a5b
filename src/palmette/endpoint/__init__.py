"""A client for the chat completions of an OpenAI-compatible server, and a decoder that answers with it."""
