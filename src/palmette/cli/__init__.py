"""The command line: a command parses, loads the recipe, and calls."""
