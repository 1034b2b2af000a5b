"""Completions on disk, one file each, named by the hash of the request. A job that was stopped asks nothing twice.

The hash covers the base URL, the model's name, the messages and all parameters. The URL counts because a model's name
means something only on its server: llama.cpp answers to any name. Not covered: a different model behind the same URL
and name. The API key is neither hashed nor stored. The files contain the messages, which include the documents, and the
completions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from palmette import run
from palmette.endpoint.completion import Completion
from palmette.errors import RunError

_VERSION = 1


class CompletionCache:
    """A folder of completions, which any number of processes may share.

    Args:
        folder: where they are stored. It is created if it does not exist.

    Raises:
        RunError: the folder cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser()
        self._create(self.folder)

    def read(self, url: str, request: Mapping[str, Any]) -> Completion | None:
        """The stored completion of a request. A file that cannot be read counts as missing and is written again."""
        try:
            record = json.loads(self._path(url, request).read_text(encoding="utf-8"))
            if record["request"] == request and record["url"] == url:
                return Completion(**{**record["completion"], "from_cache": True})
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def write(self, url: str, request: Mapping[str, Any], completion: Completion) -> None:
        """Store a completion.

        Raises:
            RunError: it cannot be written.
        """
        path = self._path(url, request)
        self._create(path.parent)
        record = {"url": url, "request": request, "completion": asdict(completion)}
        run.write_text(path, json.dumps(record) + "\n")

    def _path(self, url: str, request: Mapping[str, Any]) -> Path:
        text = json.dumps([_VERSION, url, request], sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}.json"

    def _create(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot create the cache {folder}: {error.strerror}", "Give another --cache.") from error
