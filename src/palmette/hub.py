"""The first contact with the Hugging Face hub: one quick question, before anything slow is begun.

Left to itself, huggingface_hub asks for each file six times, with growing pauses, before it gives up. Here one request
settles whether the hub can be reached and has what a name stands for.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Iterator
from typing import Literal

SECONDS = 8.0  # for the whole question, the look-up of the host's name included


@functools.cache
def first_contact(
    name: str, file: str, *, kind: Literal["model", "dataset"] = "model", revision: str | None = None
) -> Exception | None:
    """Ask the hub once for a file of a repository.

    Args:
        name: the repository's id.
        file: the file.
        kind: whether the repository is a model or a data set.
        revision: branch, tag or commit.

    Returns:
        None if the hub has the file, or else the error of huggingface_hub or of its network client. A second question
        in the same process gets the same answer.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            url = hf_hub_url(name, file, repo_type=kind, revision=revision)
            get_hf_file_metadata(url, timeout=SECONDS)
            outcome.append(None)
        except Exception as error:  # the library has a dozen kinds, those of its network client among them
            outcome.append(error)

    # In a thread, since nothing else puts a limit to the look-up of a host's name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return outcome[0] if outcome else TimeoutError(f"no answer in {SECONDS:g} seconds")


def is_answer(error: Exception) -> bool:
    """Whether an error is the hub's own answer about a repository. Otherwise the hub was not reached."""
    from huggingface_hub import errors

    return isinstance(error, errors.RepositoryNotFoundError | errors.RevisionNotFoundError | errors.EntryNotFoundError)


def is_offline(error: Exception) -> bool:
    """Whether the hub was not asked, because HF_HUB_OFFLINE is set."""
    from huggingface_hub import errors

    return isinstance(error, errors.OfflineModeIsEnabled)


def not_reached(error: Exception) -> str:
    """Why the hub was not reached, as a clause: "the hub cannot be reached at https://huggingface.co (...)"."""
    from huggingface_hub import constants

    if is_offline(error):
        return "HF_HUB_OFFLINE is set"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    why = (lines[0] if lines else type(error).__name__).rstrip(".")
    return f"the hub cannot be reached at {constants.ENDPOINT} ({why})"


@contextlib.contextmanager
def without_hub() -> Iterator[None]:
    """Let the libraries take earlier downloads and not ask the hub, which would cost half a minute of retries."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
