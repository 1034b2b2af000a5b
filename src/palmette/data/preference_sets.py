"""Preferences of one source, read and checked: pairs, ranked lists, verdicts, and what people's votes become.

`data/preference.py` describes the rows, and `data/votes.py` those of votes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic

from palmette.data.kinds import Kind, of_kind
from palmette.data.preference import (
    COMPARISON_COLUMNS,
    VERDICT_COLUMNS,
    Comparison,
    Reason,
    Record,
    Verdict,
    parse_comparisons,
    parse_verdicts,
)
from palmette.data.source import OnBad, open_rows
from palmette.data.votes import Contests, Row, VoteCounts, learned_rows
from palmette.errors import DataError

Opened = tuple[str, Iterable[Row | DataError]]


@dataclass(frozen=True, slots=True)
class DroppedRecord:
    """A record that was left out, with the kind of its problem and the message that names it."""

    reason: Reason
    problem: str


@dataclass(frozen=True, slots=True)
class PreferenceSet(Generic[Record]):
    """Records read from one source.

    Attributes:
        source: where they came from, as the user named it.
        records: what was read.
        sha256: hash of the source's bytes, or the hub's fingerprint.
        dropped: records left out under the policy "drop".
        votes: what was counted, if the source holds votes.
    """

    source: str
    records: tuple[Record, ...]
    sha256: str
    dropped: tuple[DroppedRecord, ...] = field(default=())
    votes: VoteCounts | None = None

    @property
    def counts(self) -> dict[Reason, int]:
        """The number of records left out, by reason, the most frequent first."""
        return count_reasons(self.dropped)

    def describe(self) -> dict[str, Any]:
        """The source of the records, its hash and their number, for manifests and reports."""
        about = {"source": self.source, "sha256": self.sha256, "records": len(self.records)}
        return about if self.votes is None else {**about, "votes": asdict(self.votes)}


def read_comparisons(
    source: str,
    *,
    default_split: str = "train",
    on_bad_record: OnBad = "error",
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    opened: Opened | None = None,
) -> PreferenceSet[Comparison]:
    """Read and check pairs and ranked lists. Votes become pairs.

    Args:
        source: a file or a hub data set. The module says where their rows are described.
        default_split: the split of a hub data set whose name gives none after a colon.
        on_bad_record: "error" refuses the source. "drop" leaves bad records out and counts them.
        limit: read at most so many good records, the first ones. The rest is not checked.
        columns: the names of columns that the data call otherwise, as {ours: theirs}.
        opened: the hash and the rows of the source, if it was opened already. Then `source` only names it.

    Raises:
        DataError: there is no such source, a record is bad (the message names the first and counts them all), or
            nothing is left.
    """
    return _read(_COMPARISONS, source, default_split, on_bad_record, limit, columns, opened)


def read_verdicts(
    source: str,
    *,
    default_split: str = "train",
    on_bad_record: OnBad = "error",
    limit: int | None = None,
    columns: Mapping[str, str] | None = None,
    opened: Opened | None = None,
) -> PreferenceSet[Verdict]:
    """Read and check verdicts. Of votes, each answer gets one. Arguments and errors are those of `read_comparisons`."""
    return _read(_VERDICTS, source, default_split, on_bad_record, limit, columns, opened)


@dataclass(frozen=True, slots=True)
class _Kind(Generic[Record]):
    """One of both kinds of records.

    Attributes:
        kind: the kind of rows, besides votes.
        columns: what a row needs, for messages.
        example: a data set of the hub with such rows.
        made: what votes become.
        parse: reads the rows.
    """

    kind: Kind
    columns: str
    example: str
    made: Callable[[Contests], Iterable[Row]]
    parse: Callable[[Iterable[Row | DataError], str], Iterable[Record | DataError]]


_COMPARISONS = _Kind(
    "preferences", COMPARISON_COLUMNS, "trl-lib/ultrafeedback_binarized", Contests.pair_rows, parse_comparisons
)
_VERDICTS = _Kind("verdicts", VERDICT_COLUMNS, "trl-lib/kto-mix-14k", Contests.verdict_rows, parse_verdicts)


def _read(
    kind: _Kind[Record],
    source: str,
    default_split: str,
    on_bad_record: OnBad,
    limit: int | None,
    columns: Mapping[str, str] | None,
    opened: Opened | None,
) -> PreferenceSet[Record]:
    digest, rows = opened or open_rows(
        source, default_split=default_split, columns=kind.columns, example=kind.example, names=columns
    )
    made, votes = learned_rows(of_kind(rows, source, kind.kind, "votes"), source, kind.made)
    return _collect(kind.parse(made, source), source, digest, on_bad_record, limit, votes)


def _collect(
    parsed: Iterable[Record | DataError],
    source: str,
    digest: str,
    on_bad_record: OnBad,
    limit: int | None,
    votes: VoteCounts | None,
) -> PreferenceSet[Record]:
    records: list[Record] = []
    errors: list[DataError] = []
    for record in parsed:
        if limit is not None and len(records) >= limit:
            break
        if isinstance(record, DataError):
            errors.append(record)
        else:
            records.append(record)
    dropped = tuple(DroppedRecord(getattr(error, "reason", "format"), error.problem) for error in errors)
    read = PreferenceSet(source, tuple(records), digest, dropped, votes)
    if errors and on_bad_record == "error":
        raise DataError(
            f"{errors[0].problem} (bad records in all: {say_counts(read.counts)}, good ones: {len(records)})",
            f"{errors[0].way_out} Or set data.on_bad_record: drop.",
        )
    if not records:
        empty = "it has no row" if votes is None else votes.words()
        first = f"all were dropped ({say_counts(read.counts)}), first {errors[0].problem}" if errors else empty
        raise DataError(f"{source}: no record is left: {first}", "Fix the records, or give another source.")
    return read


def count_reasons(dropped: Iterable[DroppedRecord]) -> dict[Reason, int]:
    """The number of records left out, by reason, the most frequent first."""
    return dict(Counter(record.reason for record in dropped).most_common())


def say_counts(counts: dict[Reason, int]) -> str:
    """Counts by reason in words: "3 identical, 1 empty"."""
    return ", ".join(f"{count} {reason}" for reason, count in counts.items())
