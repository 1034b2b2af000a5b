"""`palmette mcp`: documents read for assistants, over the Model Context Protocol."""
