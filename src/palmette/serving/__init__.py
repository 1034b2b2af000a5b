"""The HTTP API: models behind OpenAI's endpoints and some of our own, and the thread that runs the models."""
