"""Everything that writes HTML or draws plots."""
