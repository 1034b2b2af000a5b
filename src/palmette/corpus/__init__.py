"""Collections of texts: where they come from, how they are cleaned, and what is counted of them."""
