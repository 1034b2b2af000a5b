"""Models beside each other: what they are made of, what they say, and which is worth its cost."""
