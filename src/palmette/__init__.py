"""Palmette specialises small language models on exact tasks: answers copied word for word from a document, or an honest refusal."""

__version__ = "0.1.0"

__all__ = ["__version__"]
