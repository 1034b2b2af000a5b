"""Models opened by name: answerers, reward models, reference models, and jobs that answer files."""
