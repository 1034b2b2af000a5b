"""What the measures are called where people read them: on the terminal, in a model card."""

from __future__ import annotations

# Those that every figure of a model is read by.
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
