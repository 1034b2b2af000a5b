"""Training stages that build on one another, run and measured together."""
