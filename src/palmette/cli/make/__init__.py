"""The commands that check data, and make them."""
