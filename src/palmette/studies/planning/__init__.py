"""What a model needs of memory, by arithmetic, before anything is loaded."""
