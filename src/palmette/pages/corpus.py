"""The page of a corpus: what its sources hold, and what cleaning drops of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palmette.corpus.survey import SourceSurvey
from palmette.numbers import percent
from palmette.pages.page import render_page, write_page


def write_corpus_page(path: Path, surveys: Sequence[SourceSurvey], settings: dict[str, Any], tokenizer: str) -> None:
    """Write the page.

    Args:
        path: the file.
        surveys: what was counted, by source.
        settings: how texts were cleaned, by the names of the recipe's keys.
        tokenizer: the model whose tokenizer counted tokens.

    Raises:
        RunError: it cannot be written.
    """
    write_page(path, corpus_page(surveys, settings, tokenizer))


def corpus_page(surveys: Sequence[SourceSurvey], settings: dict[str, Any], tokenizer: str) -> str:
    """The page as HTML."""
    read = sum(one.counts.read for one in surveys)
    kept = sum(one.counts.texts for one in surveys)
    tokens = sum(one.tokens for one in surveys)
    facts = [
        ("Texts", f"{kept:,} of {read:,} are kept"),
        ("Tokens", f"{tokens:,}, with the tokenizer of {tokenizer}"),
        ("Cleaning", ", ".join(f"{name}: {value}" for name, value in settings.items()) or "none"),
    ]
    return render_page(
        "corpus.html",
        styles=("page.css",),
        scripts=(),
        title=f"Corpus of {', '.join(one.source for one in surveys)}",
        facts=facts,
        rows=[_row(one) for one in surveys],
        drops=[(one.source, _drops(one)) for one in surveys if one.counts.dropped],
    )


def _row(one: SourceSurvey) -> dict[str, str]:
    counts = one.counts
    return {
        "source": one.source + ("" if one.whole else " (its beginning)"),
        "read": f"{counts.read:,}",
        "kept": f"{counts.texts:,}",
        "share": percent(counts.texts / counts.read, counts.read) if counts.read else "",
        "characters": f"{counts.characters:,}",
        "trimmed": f"{counts.trimmed:,}",
        "tokens": f"{one.tokens:,}",
    }


def _drops(one: SourceSurvey) -> list[dict[str, Any]]:
    """The reasons, the most frequent first, with examples."""
    ordered = sorted(one.counts.dropped.items(), key=lambda item: -item[1].texts)
    return [
        {
            "reason": reason,
            "texts": f"{drops.texts:,}",
            "characters": f"{drops.characters:,}",
            "examples": [{"name": name, "detail": detail, "text": text} for name, detail, text in drops.examples],
        }
        for reason, drops in ordered
    ]
