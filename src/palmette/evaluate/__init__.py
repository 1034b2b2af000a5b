"""Measuring: the SQuAD v2 metrics, evaluation of a model, plots."""
