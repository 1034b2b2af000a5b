"""Answers kept on disk, one file each, named by the hash of what was asked: a job that was killed asks nothing twice.

The hash covers the base URL, the model's name, the messages and all parameters. The URL counts because a model's name means something only
on its server (llama.cpp's answers to any name). What it does *not* cover: another model behind the same URL and name. The API key is
neither hashed nor kept. The files hold the messages, documents included, and the replies.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palmette import run
from palmette.errors import RunError

_VERSION = 1


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion.

    Attributes:
        text: what the model said.
        finish_reason: why it ended, as the server says: "stop", "length" (cut at max_tokens), "content_filter", ...
        refusal: the server's own field for a refusal; "" if it is not there.
        prompt_tokens, completion_tokens: what was used; None where the server does not count.
        model: the name under which the model served it.
        from_cache: whether it was asked at an earlier time.
    """

    text: str
    finish_reason: str
    refusal: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    model: str = ""
    from_cache: bool = False

    @property
    def truncated(self) -> bool:
        """Whether it was cut before its end."""
        return self.finish_reason == "length"


class AnswerCache:
    """A folder of answers; any number of threads and processes may share it.

    Args:
        folder: where they are kept; created if it is not there.

    Raises:
        RunError: it cannot be created.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._create(folder)

    def read(self, url: str, request: Mapping[str, Any]) -> Completion | None:
        """The answer to a request, if it is there; a file that cannot be read counts as none, and is written anew."""
        try:
            record = json.loads(self._path(url, request).read_text(encoding="utf-8"))
            if record["request"] == request and record["url"] == url:
                return Completion(**{**record["completion"], "from_cache": True})
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def write(self, url: str, request: Mapping[str, Any], completion: Completion) -> None:
        """Keep an answer.

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
