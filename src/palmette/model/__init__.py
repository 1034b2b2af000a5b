"""Models: loading, attention backends that honour a tree's mask, the forward pass at chosen positions."""
