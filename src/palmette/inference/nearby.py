"""What a mistyped name may have meant: runs below ./runs, and models or results beside the path that was given."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator
from pathlib import Path

from palmette import run
from palmette.errors import RunError
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


def check_there(folder: Path, otherwise: str, *, file: str | None = None) -> None:
    """Check that there is a run or a folder of results, before anything heavy is imported to read it.

    Args:
        folder: the folder.
        otherwise: what to give, a sentence.
        file: the file that makes a folder one of its kind, for suggestions. A run or a model is suggested if None.

    Raises:
        RunError: there is nothing of this name. The way out names what is most like it.
    """
    if not folder.exists():
        way_out = suggestion(str(folder), otherwise, file=file)
        raise RunError(f"there is no folder {str(folder)!r}", way_out)


def suggestion(text: str, otherwise: str, *, file: str | None = None) -> str:
    """A way out for a name that means nothing: "Did you mean runs/quickstart?", or `otherwise` if nothing is near.

    Args:
        text: the name.
        otherwise: a sentence.
        file: as in `nearest`.
    """
    near = nearest(text, file=file)
    return f"Did you mean {near}? {otherwise}" if near else otherwise


def nearest(text: str, *, file: str | None = None) -> str | None:
    """The name on this machine that is most like a name, or None if none is like it.

    Args:
        text: the name.
        file: look among folders that hold this file, such as those of results. Among runs and models if None.
    """
    path = expand(text)
    beside = _models(path.parent) if file is None else _holding(file, _entries(path.parent))
    below = _runs() if file is None else _holding(file, _folders_of_runs())
    # A name beside the path differs in its last part alone. A run below ./runs may be named without its folder.
    ratios = [(_ratio(path.name, near.name), str(near)) for near in beside]
    ratios += [(max(_ratio(text, str(near)), _ratio(path.name, near.name)), str(near)) for near in below]
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


def _folders_of_runs() -> Iterator[Path]:
    """What is in ./runs, and one folder deeper."""
    for path in _entries(Path(RUNS)):
        yield path
        yield from _entries(path)


def _holding(file: str, folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        with contextlib.suppress(OSError):
            if (folder / file).is_file():
                yield folder


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
