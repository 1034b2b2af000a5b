"""Heads for masked tokens that were trained here, kept in the user's cache for encoders that come without one.

A run of `palmette train mlm` on such an encoder leaves its weights, head and encoder, beside the prepared weights of
other models (`model/prepared.py`), under a hash of the encoder's files. Then the encoder's own name is enough to write
with it. A later run on the same encoder takes the place of the earlier one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from palmette.inference.fingerprint import base_fingerprint, fingerprint_hash
from palmette.model.prepared import find_prepared, keep_prepared, remove_prepared

_ABOUT = "about.json"


def keep_head(
    model: Any, encoder: str, commit: str | None, about: Mapping[str, Any], load: Callable[[Path], Any]
) -> bool:
    """Keep a trained model for an encoder that has no head of its own.

    Args:
        model: the trained model, a masked language model.
        encoder: the folder or hub id that training started from.
        commit: the commit of a hub id.
        about: what it learned, as JSON.
        load: loads such a model from a folder.

    Returns:
        Whether it was kept. It is not where the cache cannot be written, is full, or is turned off.
    """
    key = _key(encoder, commit)
    before = find_prepared(key)
    if before is not None:
        remove_prepared(before)
    keep_prepared(model, key, load, beside={_ABOUT: json.dumps(about)})
    return find_prepared(key) is not None


def find_head(encoder: str, commit: str | None) -> tuple[Path, dict[str, Any]] | None:
    """The folder of the weights that are kept for an encoder, and what they learned. None if there are none.

    Args:
        encoder: the folder or hub id of an encoder without a head.
        commit: the commit of a hub id.
    """
    entry = find_prepared(_key(encoder, commit))
    return None if entry is None else (entry, json.loads((entry / _ABOUT).read_text(encoding="utf-8")))


def _key(encoder: str, commit: str | None) -> str:
    return f"head-{fingerprint_hash(base_fingerprint(encoder, commit))[:35]}"
