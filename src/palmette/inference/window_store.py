"""What was read of documents, kept on disk: the keys and values of their windows.

So the second question about a long document costs what a question costs, in a new process too. The numbers are those of
reading the window again, to the last bit. So an entry is found only by the same tokens after the same prompt, the same
weights, the same code, and the same machine settings.

Documents are private, and their text can be computed from keys and values. So the folder and its files are for their
owner alone, and the folder is not used if it belongs to somebody else. The total size is limited, and the entries that
were not used for longest are removed first. `PALMETTE_WINDOW_CACHE` sets the limit in megabytes. 0 turns the store off,
and what it holds can be deleted at any time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import stat
import uuid
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palmette.cache import cache_folder, make_room, mark_used, remove_abandoned
from palmette.decode.prefix_cache import States
from palmette.errors import PalmetteError
from palmette.inference.fingerprint import base_fingerprint, fingerprint_hash
from palmette.inference.names import ModelSource, locate

if TYPE_CHECKING:
    from palmette.inference.answerer import Answerer

LIMIT = "PALMETTE_WINDOW_CACHE"  # megabytes
DEFAULT_LIMIT = 1000
# A shorter window is read about as fast as its keys and values are found and loaded.
LEAST_TOKENS = 256


class WindowStore:
    """Keys and values of windows, each in a file of its own.

    Args:
        folder: where they are.
        identity: what they depend on, besides the tokens of the window.
        limit: the most bytes that all files together take.
    """

    def __init__(self, folder: Path, identity: str, limit: int) -> None:
        self._folder, self._identity, self._limit = folder, identity, limit

    def get(self, tokens: Sequence[int]) -> States | None:
        """The keys and values of a window, or None if they are not kept."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.path(tokens)
        if len(tokens) < LEAST_TOKENS or not path.is_file():
            return None
        try:
            tensors = load_file(path)
            states = [(tensors[f"keys.{layer}"], tensors[f"values.{layer}"]) for layer in range(len(tensors) // 2)]
        except (OSError, SafetensorError, KeyError):  # damaged, or just removed: the window is read again
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        mark_used(path)
        return states

    def put(self, tokens: Sequence[int], states: States) -> None:
        """Keep the keys and values of a window, as far as the disk and the limit allow."""
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        size = sum(keys.nbytes + values.nbytes for keys, values in states)
        if len(tokens) < LEAST_TOKENS or size > self._limit:
            return
        tensors = {}
        for layer, (keys, values) in enumerate(states):
            tensors[f"keys.{layer}"], tensors[f"values.{layer}"] = keys, values
        path = self.path(tokens)
        part = path.with_name(f".{uuid.uuid4().hex}")
        try:
            part.touch(mode=0o600)
            save_file(tensors, part)
            part.chmod(0o600)
            part.replace(path)
        except (OSError, SafetensorError):  # a full disk, for example: nothing is lost but time
            self._limit = 0
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
        make_room(self._folder, self._limit, keep=path)

    def path(self, tokens: Sequence[int]) -> Path:
        """The file of a window."""
        key = hashlib.sha256(f"{self._identity} {list(tokens)}".encode()).hexdigest()
        return self._folder / f"{key[:40]}.safetensors"


def window_store(answerer: Answerer) -> WindowStore | None:
    """The store for a model. None if it is turned off, or if keys and values cannot be found again.

    It serves models on a CPU that were loaded by their name. A GPU reads a window faster than a disk.

    Raises:
        PalmetteError: the environment sets a limit that is no number.
    """
    limit = _limit()
    model, source = answerer.loaded.model, answerer.source
    if not limit or model.device.type != "cpu" or source is None:
        return None
    weights = _weights(answerer, source)
    folder = cache_folder() / "windows"
    if weights is None or not _is_private(folder):
        return None
    remove_abandoned(folder)
    return WindowStore(folder, _identity(answerer, weights), limit)


def _limit() -> int:
    """The limit in bytes."""
    given = os.environ.get(LIMIT, str(DEFAULT_LIMIT))
    if not given.isdecimal():
        raise PalmetteError(f"{LIMIT} is {given!r}", "Give a number of megabytes, or 0 to keep nothing.")
    return int(given) * 10**6


def _is_private(folder: Path) -> bool:
    """Whether the folder is there, and only this user can look into it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or (hasattr(os, "getuid") and status.st_uid != os.getuid()):
            return False
        folder.chmod(0o700)
    except OSError:
        return False
    return True


def _weights(answerer: Answerer, source: ModelSource) -> list[str | None] | None:
    """The hashes of all weights, or None if they are not known."""
    if answerer.weights is not None and (source.is_full or answerer.base is not None):
        return [answerer.weights, answerer.base]
    if answerer.weights is not None:
        return None
    commit = getattr(answerer.loaded.model.config, "_commit_hash", None) or source.section.revision
    print_of_base = base_fingerprint(locate(source.section.name), commit)
    if print_of_base["kind"] == "hub" and not commit:
        return None
    return [fingerprint_hash(print_of_base)]


def _identity(answerer: Answerer, weights: list[str | None]) -> str:
    """All that keys and values depend on, besides the tokens of the window, as one hash."""
    import safetensors
    import torch
    import transformers

    from palmette import __version__
    from palmette.model.fused import describe, kernels_name

    model = answerer.loaded.model
    root = answerer.task.open_completion(".", ".").root
    facts: dict[str, Any] = {
        "weights": weights,
        "root": list(root),
        "section": None if answerer.source is None else answerer.source.section.model_dump(mode="json"),
        "dtype": str(model.dtype),
        "attention": model.config.get_text_config()._attn_implementation,
        "layers": [describe(model), kernels_name(model), sum("lora_" in name for name, _ in model.named_modules())],
        "machine": [platform.machine(), torch.backends.cpu.get_cpu_capability(), torch.get_num_threads()],
        "versions": [__version__, torch.__version__, transformers.__version__, safetensors.__version__],
        "code": _code_hash(),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


@functools.cache
def _code_hash() -> str:
    """Hash of the code that computes keys and values."""
    package, digest = resources.files("palmette"), hashlib.sha256()
    files = [file for file in package.joinpath("model").iterdir() if file.is_file()]
    files += [package.joinpath("decode", name) for name in ("asking.py", "prefix_cache.py")]
    for file in sorted(files, key=str):
        digest.update(file.read_bytes())
    return digest.hexdigest()
