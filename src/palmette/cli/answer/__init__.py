"""The commands that answer: about a document, about many, in a conversation, and over a port."""
