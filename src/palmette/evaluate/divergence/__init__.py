"""How far a policy has gone from its reference model."""
