"""Stores completions on disk, so that a job that was stopped asks nothing twice.

Each completion is a file, named by the hash of its request. The hash covers the base URL, the model's name, the
messages and all parameters. It includes the URL because a model's name only has a meaning on its server. llama.cpp, for
example, answers to any name. If another model is put behind the same URL and name, the cache does not notice. The API
key is neither hashed nor stored. The files contain the completions and the messages, which include the documents.
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
from palmette.errors import RunError, reason_of

_VERSION = 1


class CompletionCache:
    """A folder of completions that any number of processes can share.

    Args:
        folder: the folder. It is created if it does not exist.

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
                stored = record["completion"]
                first = tuple((str(token), float(logprob)) for token, logprob in stored.get("first", ()))
                return Completion(**{**stored, "first": first, "from_cache": True})
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def write(self, url: str, request: Mapping[str, Any], completion: Completion) -> None:
        """Store a completion.

        Raises:
            RunError: the file cannot be written.
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
            raise RunError(f"cannot create the cache {folder}: {reason_of(error)}", "Give another --cache.") from error
