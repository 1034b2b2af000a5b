"""Win rates against a reference, as AlpacaEval 2 counts them, and at equal length.

Its win rate is the mean preference over the items whose verdict was read. Unread ones are counted beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from palmette.errors import DataError
from palmette.judge.length_control import Controlled, LengthControl, length_controlled
from palmette.judge.preferences import Preference


@dataclass(frozen=True, slots=True)
class WinRate:
    """The win rate of one model, in percent.

    Attributes:
        model: its name.
        win_rate: the mean preference.
        standard_error: of the mean, with N - 1. None for a single item.
        discrete: wins and half of the draws, where a preference above one half is a win.
        controlled: the win rate at equal length. None without lengths.
        items: verdicts that were read.
        unread: verdicts that were not.
        length: the mean length of its outputs in characters. None if it is not known.
    """

    model: str
    win_rate: float
    standard_error: float | None
    discrete: float
    controlled: Controlled | None
    items: int
    unread: int
    length: float | None


@dataclass(frozen=True)
class WinRates:
    """The win rates of all models against one reference, best first.

    Attributes:
        reference: its name. "" if it is not known.
        rows: best first, by the win rate at equal length where there is one.
        control: what the control for length found. None without lengths.
    """

    reference: str
    rows: tuple[WinRate, ...]
    control: LengthControl | None

    def record(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        return asdict(self)


def win_rates(preferences: Sequence[Preference], *, num_samples: int = 200, seed: int = 0) -> WinRates:
    """The win rates of all models.

    Args:
        preferences: of one or several models over one reference.
        num_samples: see `length_controlled`.
        seed: see `length_controlled`.

    Raises:
        DataError: no verdict of a model was read.
    """
    by_model: dict[str, list[Preference]] = {}
    for one in preferences:
        by_model.setdefault(one.model, []).append(one)
    known = any(one.lengths is not None and one.share is not None for one in preferences)
    control = length_controlled(preferences, num_samples=num_samples, seed=seed) if known else None
    rows = [_row(model, some, control) for model, some in by_model.items()]
    rows.sort(key=lambda row: (-_best(row), row.model))
    return WinRates(preferences[0].reference, tuple(rows), control)


def _best(row: WinRate) -> float:
    held = row.controlled.win_rate if row.controlled is not None else None
    return row.win_rate if held is None else held


def _row(model: str, some: Sequence[Preference], control: LengthControl | None) -> WinRate:
    share_N = np.array([one.share for one in some if one.share is not None], dtype=np.float64)
    if not share_N.size:
        raise DataError(f"none of the {len(some)} verdicts on {model} was read", "Look at what the judge wrote.")
    lengths = [one.lengths[1] for one in some if one.lengths is not None]
    return WinRate(
        model,
        100.0 * float(share_N.mean()),
        100.0 * float(share_N.std(ddof=1)) / len(share_N) ** 0.5 if len(share_N) > 1 else None,
        100.0 * float(((share_N > 0.5) + 0.5 * (share_N == 0.5)).mean()),
        control.models.get(model) if control is not None else None,
        len(share_N),
        len(some) - len(share_N),
        float(np.mean(lengths)) if lengths else None,
    )
