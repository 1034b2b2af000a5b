"""The names of figures on the terminal, in tables and in a model card."""

from __future__ import annotations

# The first figures that a reader looks for.
HEADLINES = {
    "exact": "exact match (EM)",
    "f1": "F1",
    "HasAns_exact": "EM, answerable",
    "NoAns_exact": "EM, unanswerable",
    "valid_json": "valid JSON",
    "verbatim": "verbatim in the document",
}
# How a decoder came to its answers.
DECISIONS = {"answered": "answered", "certified": "proved most probable"}
