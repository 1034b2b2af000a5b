"""What a mistyped name of a model may have meant: runs below ./runs, and models beside the path that was given."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator
from pathlib import Path

from palmette import run
from palmette.files import expand

RUNS = "runs"  # where recipes and the quickstart put runs
_SURE, _LIKELY = 0.85, 0.6  # difflib's ratio from which a name is taken for a typo, and from which one is suggested
_MANY = 500  # entries of a folder that are looked at


def is_local(text: str) -> bool:
    """Whether a name that could be an id on the hub is meant for something on this machine.

    So it is if it begins with `runs/`, if a file has this name, or if it is almost the name of a run below ./runs.

    Args:
        text: a name that no folder has.
    """
    path = expand(text)
    if path.parts[:1] == (RUNS,) or path.is_file():
        return True
    return bool(difflib.get_close_matches(text, [str(near) for near in _runs()], n=1, cutoff=_SURE))


def suggestion(text: str, otherwise: str) -> str:
    """A way out for a name that means nothing: "Did you mean runs/quickstart?", or `otherwise` if nothing is near.

    Args:
        text: the name.
        otherwise: a sentence.
    """
    near = nearest(text)
    return f"Did you mean {near}? {otherwise}" if near else otherwise


def nearest(text: str) -> str | None:
    """The name of the run or model on this machine that is most like a name, or None if none is like it.

    Args:
        text: the name.
    """
    path = expand(text)
    # A name beside the path differs in its last part alone. A run below ./runs may be named without its folder.
    ratios = [(_ratio(path.name, near.name), str(near)) for near in _models(path.parent)]
    ratios += [(max(_ratio(text, str(near)), _ratio(path.name, near.name)), str(near)) for near in _runs()]
    ratio, name = max(ratios, default=(0.0, ""))
    return name if ratio >= _LIKELY else None


def first_inside(folder: Path) -> str | None:
    """The first run or model in a folder, by name, or None if there is none."""
    return next(map(str, _models(folder)), None)


def _ratio(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a.lower(), b.lower()).ratio()


def _runs() -> Iterator[Path]:
    """The runs below ./runs, and one folder deeper, where sweeps and chains keep theirs."""
    for path in _entries(Path(RUNS)):
        if run.is_run(path):
            yield path
        else:
            yield from (inner for inner in _entries(path) if run.is_run(inner))


def _models(folder: Path) -> Iterator[Path]:
    """The runs, model folders and GGUF files in a folder."""
    for entry in _entries(folder):
        with contextlib.suppress(OSError):
            if run.is_run(entry) or (entry / "config.json").is_file() or entry.suffix.lower() == ".gguf":
                yield entry


def _entries(folder: Path) -> list[Path]:
    """The first entries of a folder. None if it cannot be read."""
    with contextlib.suppress(OSError):
        return [entry for entry, _ in zip(sorted(folder.iterdir()), range(_MANY), strict=False)]
    return []
