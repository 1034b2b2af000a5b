"""Tasks and their answers written by a model: from seed tasks, and from texts."""
