"""Stages that build on one another, trained and measured together."""
