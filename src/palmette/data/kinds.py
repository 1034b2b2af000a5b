"""The kinds of data, how a row shows its kind, and what each kind is for.

Every reader of rows says which kinds it takes. Data of another kind is refused with a message that says what it is and
what takes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from palmette.data.values import without_nulls
from palmette.errors import DataError

Kind = Literal["texts", "questions", "conversations", "preferences", "verdicts", "votes", "judged answers"]
Row = Mapping[str, Any]
LOOKED_AT = 20  # rows, so that a stray one does not decide


@dataclass(frozen=True)
class DataKind:
    """A kind of data.

    Attributes:
        title: what messages call it.
        columns: what its rows have.
        uses: what takes it, as a sentence.
        shows: whether a row shows this kind. It sees the row without its nulls.
        may_be: whether a row may be meant as this kind, although something is wrong with it.
    """

    title: str
    columns: str
    uses: str
    shows: Callable[[Row], bool]
    may_be: Callable[[Row], bool]


_COMPARED = ("chosen", "ranked", "completions")
_JUDGED = ("answer", "prediction", "completion")


def _has(row: Row, *keys: str) -> bool:
    return all(key in row for key in keys)


def _has_one(row: Row, *keys: str) -> bool:
    return any(key in row for key in keys)


def _is_verdict(row: Row) -> bool:
    return _has(row, "prompt", "completion") and isinstance(row.get("label"), bool)


def _is_judged(row: Row) -> bool:
    return isinstance(row.get("label"), bool) and _has_one(row, *_JUDGED) and _has_one(row, "question", "id")


def _is_vote(row: Row) -> bool:
    return "winner" in row and (_has(row, "model_a", "model_b") or _has(row, "left", "right"))


# The order matters: a verdict has the columns of a conversation too, and a judged answer may have its document.
KINDS: dict[Kind, DataKind] = {
    "preferences": DataKind(
        "preferences",
        "'prompt', 'chosen' and 'rejected', or 'prompt' and 'ranked' (a list, best first)",
        "Preferences are for palmette train dpo, train reward and eval reward, and with kto.pairs: true for train kto.",
        lambda row: _has_one(row, *_COMPARED),
        lambda row: _has_one(row, *_COMPARED),
    ),
    "verdicts": DataKind(
        "verdicts on completions",
        "'prompt', 'completion' and 'label' (true or false)",
        "Verdicts on completions are for palmette train kto.",
        _is_verdict,
        lambda row: _has(row, "label", "completion"),
    ),
    "votes": DataKind(
        "votes on pairs of answers",
        "'model_a', 'model_b', 'winner', 'conversation_a' and 'conversation_b'",
        "Votes are for palmette train dpo, train reward, train kto, eval reward and arena rank.",
        _is_vote,
        lambda row: _has_one(row, "winner", "model_a", "model_b"),
    ),
    "judged answers": DataKind(
        "judged answers",
        "'label' (true or false), a question's id as 'question', and an 'answer' or a 'completion'",
        "Judged answers are for palmette synth preferences --verdicts.",
        _is_judged,
        lambda row: _has(row, "label"),
    ),
    "questions": DataKind(
        "questions about documents",
        "'question', 'context' and 'answers'",
        "Questions about documents are for palmette predict, review, eval squad and calibrate, for train grpo and "
        "train ppo, for train sft with data.kind: qa, and for synth preferences, which makes preferences of them.",
        lambda row: _has(row, "question") and _has_one(row, "context", "document"),
        lambda row: _has_one(row, "question", "context") and not _is_judged(row),
    ),
    "conversations": DataKind(
        "conversations",
        "'messages' (a list of turns), or 'prompt' and 'completion'",
        "Conversations are for palmette train sft with data.kind: chat.",
        lambda row: _has_one(row, "messages", "conversations") or _has(row, "prompt", "completion"),
        lambda row: _has_one(row, "messages", "conversations"),
    ),
    "texts": DataKind(
        "texts",
        "'text'",
        "Texts are for palmette train pretrain and train mlm.",
        lambda row: _has(row, "text") and not _has_one(row, "question", "label"),
        lambda row: _has(row, "text") and not _has_one(row, "question", "context", "document", "label"),
    ),
}


def kind_of(row: Row) -> Kind | None:
    """The kind that a row shows. None if it shows none.

    >>> kind_of({"prompt": "When?", "completion": "At 7:40."}), kind_of({"text": "At 7:40."})
    ('conversations', 'texts')
    >>> kind_of({"prompt": "When?", "completion": "At 7:40.", "label": True})
    'verdicts'
    """
    present = without_nulls(dict(row))
    return next((name for name, kind in KINDS.items() if kind.shows(present)), None)


def other_kind(row: Row, wanted: Iterable[Kind]) -> Kind | None:
    """The kind that a row shows, if it cannot be meant as one of the wanted kinds. None otherwise."""
    present = without_nulls(dict(row))
    shown = kind_of(present)
    if shown is None or shown in wanted or any(KINDS[name].may_be(present) for name in wanted):
        return None
    return shown


def wrong_kind(source: str, shown: Kind, wanted: Iterable[Kind]) -> DataError:
    """The error of data that is of another kind than what is wanted.

    Args:
        source: how messages name the data.
        shown: its kind.
        wanted: the kinds that can be read here, one or more.
    """
    names = [KINDS[name] for name in wanted]
    needed = " or ".join(kind.title for kind in names)
    columns = " Or ".join(f"{kind.title} have {kind.columns}." for kind in names)
    return DataError(
        f"{source} holds {KINDS[shown].title}, and {needed} are needed here",
        f"{KINDS[shown].uses} {columns[0].upper()}{columns[1:]}",
    )


def of_kind(
    rows: Iterable[dict[str, Any] | DataError], source: str, *wanted: Kind
) -> Iterator[dict[str, Any] | DataError]:
    """The rows as they are, once it is known that they are not data of another kind.

    Args:
        rows: rows, or the errors of lines that hold none.
        source: how messages name the data.
        wanted: the kinds that can be read here.

    Raises:
        DataError: the first rows show another kind, and none of them may be meant as one of the wanted.
    """
    rows = iter(rows)
    first = list(itertools.islice(rows, LOOKED_AT))
    found = [row for row in first if isinstance(row, dict)]
    others = [other_kind(row, wanted) for row in found]
    shown = next((kind for kind in others if kind is not None), None)
    if shown is not None and all(
        kind is not None or kind_of(row) is None for kind, row in zip(others, found, strict=True)
    ):
        raise wrong_kind(source, shown, wanted)
    return itertools.chain(first, rows)
