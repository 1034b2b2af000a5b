"""Evaluation sets against which a job is checked: what identifies them, and sources that are one of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from palmette.corpus.cleaning import Counts, Dropped
from palmette.corpus.overlap import EvaluationSets
from palmette.corpus.sources import open_source
from palmette.corpus.texts import Text, TextSource
from palmette.data.records import DataSet
from palmette.errors import DataError
from palmette.synth.instruct.settings import SHARED_WORDS

_SHARED_BY_DOCUMENTS = 13  # words

# Whether a text shares words with an evaluation set.
IsLeaked = Callable[[str], bool]


def identities(against: Sequence[str]) -> list[dict[str, Any]]:
    """What identifies the content of evaluation sets: hashes of files, or commits of the hub. Names are left out.

    So a job goes on if a file was moved, and does not if it was changed.

    Raises:
        DataError: a set does not exist.
    """
    return [dict(open_source(name).identity) for name in against]


def described(against: Sequence[str], found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Evaluation sets with their names, for a report.

    Args:
        against: the names.
        found: what `identities` gives for them.
    """
    return [{"source": name, **identity} for name, identity in zip(against, found, strict=True)]


def check_sources(sources: Sequence[TextSource], against: Sequence[str]) -> list[dict[str, Any]]:
    """Refuse sources that are evaluation sets themselves, whatever their names are.

    Args:
        sources: what data are made of.
        against: the evaluation sets.

    Returns:
        What identifies the evaluation sets.

    Raises:
        DataError: a source is an evaluation set by its content, or a set does not exist.
    """
    held = identities(against)
    for source in sources if held else ():
        if source.identity in held:
            raise DataError(
                f"{source.name} is the evaluation set {against[held.index(source.identity)]}",
                "Make data of other texts. Else what is measured there was learned by heart.",
            )
    return held


def leak_check(against: Sequence[str]) -> IsLeaked:
    """Whether a text shares 8 words in a row with evaluation sets, or a whole text of 8 words or more.

    Args:
        against: the evaluation sets.

    Raises:
        DataError: a set cannot be read, or holds no text that is long enough.
    """
    if not against:
        return lambda _: False
    sets = EvaluationSets(against, SHARED_WORDS)
    return lambda text: isinstance(sets(Text("task", text, "")), Dropped)


@dataclass(frozen=True)
class ClearData:
    """Questions about documents that share no words with evaluation sets.

    Attributes:
        data: what is left.
        against: the evaluation sets, with what identifies each.
        dropped: what was dropped, in the form of `rationale_file.dropped`.
    """

    data: DataSet
    against: list[dict[str, Any]]
    dropped: dict[str, dict[str, Any]]

    @property
    def hashes(self) -> list[dict[str, Any]]:
        """What identifies the evaluation sets, without their names."""
        return [{key: value for key, value in one.items() if key != "source"} for one in self.against]

    def as_record(self) -> dict[str, Any]:
        """The data, the evaluation sets, and what was dropped, as JSON holds it."""
        return {"data": self.data.describe(), "against": self.against, "dropped_documents": self.dropped}


def clear_data(data: DataSet, against: Sequence[str]) -> ClearData:
    """Leave out documents that share 13 words in a row with an evaluation set.

    Args:
        data: questions about documents.
        against: the evaluation sets.

    Raises:
        DataError: the data are an evaluation set, one cannot be read, or no document is left.
    """
    if not against:
        return ClearData(data, [], {})
    held = check_sources([open_source(data.source)], against)
    sets, counts, left = EvaluationSets(against, _SHARED_BY_DOCUMENTS), Counts(), []
    for document in data.documents:
        found = sets(Text(document.id, document.text, data.source))
        if isinstance(found, Dropped):
            counts.drop(found.reason, document.id, found.detail, document.text)
        else:
            left.append(document)
    if not left:
        raise DataError(f"every document of {data.source} holds a part of an evaluation set", "Take other data.")
    return ClearData(replace(data, documents=tuple(left)), described(against, held), dropped_texts(counts))


def dropped_texts(counts: Counts) -> dict[str, dict[str, Any]]:
    """Texts that were dropped, by reason, in the form of `rationale_file.dropped`."""
    return {
        reason: {
            "number": drops.texts,
            "meaning": "the text was left out as a whole",
            "examples": [{"name": name, "why": why, "it begins": text} for name, why, text in drops.examples],
        }
        for reason, drops in counts.dropped.items()
    }
