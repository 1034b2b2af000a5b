"""What a mistyped command may mean. The module is imported after the mistake only."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from palmette.cli.lazy import Command, Group

_MOST = 3
# difflib's ratio from which a name is near. Two letters that changed places in a name of three give 0.67.
_NEAR, _NEAR_IF_SHORT, _SHORT = 0.7, 0.65, 4
# What other programs call it, and what people type first. Names that are only similar are found without a table.
_CALLED = {
    "answer": "ask",
    "check": "data check",
    "compare": "compare-runs",
    "convert": "merge",
    "demo": "quickstart",
    "evaluate": "eval squad",
    "export": "merge",
    "finetune": "train sft",
    "fine-tune": "train sft",
    "generate": "chat",
    "init": "recipe",
    "publish": "push",
    "query": "ask",
    "rlhf": "chain",
    "start": "quickstart",
    "template": "recipe",
    "test": "eval squad",
    "tune": "train sft",
    "upload": "push",
    "validate": "data check",
}


def suggestion(words: Sequence[str], group: Sequence[str], table: Mapping[str, Command | Group]) -> str:
    """The commands that somebody may have meant, as a sentence. "" if nothing is near.

    Args:
        words: what was typed after the program and its groups. No command has the first of them as its name.
        group: the names of the groups that were typed before it.
        table: the commands of the whole program.
    """
    near = _nearest(words, group, list(_paths(table)))
    if not near:
        return ""
    names = [f"'palmette {path}'" for path in near]
    return f"Did you mean {', '.join(names[:-1])} or {names[-1]}?" if len(names) > 1 else f"Did you mean {names[0]}?"


def _nearest(words: Sequence[str], group: Sequence[str], paths: Sequence[str]) -> list[str]:
    typed = words[0].lower().replace("_", "-")
    inside = [path for path in paths if group and path.split()[: len(group)] == list(group)]
    by_name = _matching(typed, inside) or _matching(typed, paths)
    if by_name:
        return by_name[:_MOST]
    if typed in _CALLED:
        return [_CALLED[typed]]
    return _similar(typed, inside) or _similar(typed, paths)


def _matching(typed: str, paths: Sequence[str]) -> list[str]:
    """The paths whose last word is what was typed, or whose words, joined by hyphens, are it."""
    return [path for path in paths if typed in (path.split()[-1], path.replace(" ", "-"))]


def _similar(typed: str, paths: Sequence[str]) -> list[str]:
    """The paths that are spelt nearly so, the nearest first, or that begin so."""
    spelt = {path: (path, path.split()[-1], path.replace(" ", "-")) for path in paths}
    scores = {
        path: max(difflib.SequenceMatcher(None, typed, one).ratio() for one in forms) for path, forms in spelt.items()
    }
    least = _NEAR_IF_SHORT if len(typed) <= _SHORT else _NEAR
    near = sorted((path for path, score in scores.items() if score >= least), key=lambda path: -scores[path])
    begins = [path for path in paths if len(typed) > 1 and path.split()[-1].startswith(typed)]
    return list(dict.fromkeys([*near, *begins]))[:_MOST]


def _paths(table: Mapping[str, Command | Group], before: str = "") -> Iterator[str]:
    """Every command and group of a table as it is typed, also those in its groups. Hidden ones are left out."""
    for name, entry in table.items():
        if entry.hidden:
            continue
        yield before + name
        if isinstance(entry, Group):
            yield from _paths(entry.table(), f"{before}{name} ")
