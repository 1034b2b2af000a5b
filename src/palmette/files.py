"""Reads what people write by hand: paths with `~`, and YAML."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from palmette.errors import PalmetteError


def expand(path: str | Path) -> Path:
    """A path with a leading `~` replaced by the home folder. Any other path stays as it is.

    Recipes, manifests and fingerprints keep a path as it was written, so it is expanded only when it is opened.

    >>> expand("runs/quickstart")
    PosixPath('runs/quickstart')

    Raises:
        PalmetteError: `~NAME` names a user who has no home folder here.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise PalmetteError(f"{str(path)!r} names no home folder of this machine", "Write the whole path.") from error


def shown_from_here(path: Path) -> Path:
    """An absolute path as people write it: from the working folder, if it lies there.

    >>> shown_from_here(Path.cwd() / "runs" / "quickstart")
    PosixPath('runs/quickstart')
    >>> shown_from_here(Path("/var/lib/runs"))
    PosixPath('/var/lib/runs')
    """
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses a map that has a key twice. The plain loader keeps the last value and silently drops the others."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build the map of a node."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.value[index][0].start_mark
                )
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 1e-4 as a string, because its floats need a decimal point.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def parse_yaml(text: str) -> Any:
    """Parse YAML text into a value.

    >>> parse_yaml("train: {learning_rate: 1e-4}")
    {'train': {'learning_rate': 0.0001}}

    Raises:
        ValueError: the text is not YAML, or a map has a key twice.
    """
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(str(error)) from error


def format_yaml(value: Any) -> str:
    """Format a value as YAML. Keys keep their order."""
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
