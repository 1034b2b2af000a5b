"""The licence of a model: what a base states of itself, and what a run has from the reader."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import ModelCard
from yaml import YAMLError

from palmette import run
from palmette.errors import ModelError
from palmette.inference.names import locate, model_kind
from palmette.inference.reader import READER, reader_folder
from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.gguf_header import read_layout

_KNOWN = {DEFAULT_MODEL: "apache-2.0"}
_OF_READER = "cc-by-sa-4.0"  # see DATA.md in its folder
_READ = {"folder": lambda name: _of_folder(Path(locate(name))), "gguf": lambda name: _of_file(Path(locate(name)))}


def base_licence(name: str) -> str | None:
    """The licence that a model states, as the hub's identifier. None where it states none.

    Args:
        name: a folder, a GGUF file, or a hub id.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    stated = _READ.get(model_kind(name), _of_hub)(name)
    return stated if isinstance(stated, str) and stated not in ("", "other", "unknown") else None


def trained_licence(folder: Path) -> str | None:
    """The licence that a run's weights have because they began from the reader's. None if they did not.

    A run may have begun from another one, which began from the reader. That is seen as long as the other run's folder
    is there.

    Args:
        folder: the run's folder.
    """
    seen: set[Path] = set()
    while folder != reader_folder():
        seen.add(folder)
        try:
            start = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8")).get("start", {}).get("run")
        except (OSError, ValueError, AttributeError):
            return None
        if start == READER:
            break
        if not start or (folder := Path(start)) in seen:
            return None
    return _OF_READER


def _of_folder(folder: Path) -> object:
    card, config = folder / "README.md", folder / "config.json"
    try:
        stated = ModelCard.load(card).data.license if card.is_file() else None
        return stated or json.loads(config.read_text(encoding="utf-8")).get("license")
    except (OSError, ValueError, AttributeError, YAMLError):
        return None


def _of_file(file: Path) -> object:
    try:
        return read_layout(file).general.get("license")
    except ModelError:
        return None


def _of_hub(name: str) -> object:
    try:
        return ModelCard.load(name).data.license
    except Exception:  # the library has a class each for no network, no repository and no card
        return None
