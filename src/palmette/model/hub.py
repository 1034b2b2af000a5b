"""The first contact with the Hugging Face hub: one quick question, before anything slow is begun.

Left to itself, huggingface_hub asks for each of a model's files six times, with growing pauses, before it gives up.
Here one request for a model's configuration settles whether the hub can be reached and has the model.
"""

from __future__ import annotations

import functools
import logging
import threading
from pathlib import Path

from palmette.errors import ModelError

_SECONDS = 8.0  # for the whole question, the look-up of the host's name included
_CONFIG = "config.json"
_log = logging.getLogger(__name__)


@functools.cache
def ask_hub(name: str, revision: str | None = None) -> Path | None:
    """Ask the hub once whether it has a model.

    Args:
        name: a hub id.
        revision: branch, tag or commit.

    Returns:
        None if the hub has it. If the hub cannot be reached and an earlier download is there, its folder, and a line in
        the log says so.

    Raises:
        ModelError: the hub has no such model or does not give it to this user, or it cannot be reached and no earlier
            download is there.
    """
    from huggingface_hub import constants, errors

    error = _contact(name, revision)
    if error is None:
        return None
    if isinstance(error, errors.RevisionNotFoundError):
        raise ModelError(f"{name} has no revision {revision!r} on the hub", "Check the revision.") from error
    if isinstance(error, errors.GatedRepoError):
        raise ModelError(
            f"{name} is gated: the hub gives it only to users who accepted its terms",
            f"Accept them at {constants.ENDPOINT}/{name}, and log in with: hf auth login",
        ) from error
    if isinstance(error, errors.RepositoryNotFoundError | errors.HFValidationError):
        raise ModelError(
            f"there is no model {name!r}: no folder has this name, and the hub does not know it, or keeps it private",
            "Check the name. For a private model, log in with: hf auth login",
        ) from error
    if isinstance(error, errors.EntryNotFoundError):
        raise ModelError(
            f"{name} on the hub has no {_CONFIG}, so it is not a model that transformers can load",
            "Give a model with safetensors weights.",
        ) from error
    return _without_hub(name, revision, error)


def _without_hub(name: str, revision: str | None, error: Exception) -> Path:
    """The folder of an earlier download, or an error."""
    from huggingface_hub import constants, errors, try_to_load_from_cache

    offline = isinstance(error, errors.OfflineModeIsEnabled)
    cached = try_to_load_from_cache(name, _CONFIG, revision=revision)
    where = "HF_HUB_OFFLINE is set" if offline else f"the hub cannot be reached at {constants.ENDPOINT} ({_why(error)})"
    if isinstance(cached, str):
        if not offline:
            _log.warning("%s, so %s is loaded from an earlier download", where, name)
        return Path(cached).parent
    raise ModelError(
        f"there is no folder {name!r} on this machine, and {where}",
        "Check the name, or go online. A folder with safetensors weights or a GGUF file needs no hub.",
    ) from error


def _contact(name: str, revision: str | None) -> Exception | None:
    """What came of one request for the model's configuration. None if the hub has it."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    outcome: list[Exception | None] = []

    def ask() -> None:
        try:
            get_hf_file_metadata(hf_hub_url(name, _CONFIG, revision=revision), timeout=_SECONDS)
            outcome.append(None)
        except Exception as error:  # the library has a dozen kinds, those of its network client among them
            outcome.append(error)

    # In a thread, since nothing else puts a limit to the look-up of a host's name.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return outcome[0] if outcome else TimeoutError(f"no answer in {_SECONDS:g} seconds")


def _why(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")
