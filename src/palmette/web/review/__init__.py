"""The room in which people judge a model's answers."""
