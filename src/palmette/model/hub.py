"""A model of the Hugging Face hub: whether the hub has it, or an earlier download serves."""

from __future__ import annotations

import logging
from pathlib import Path

from palmette.errors import ModelError
from palmette.hub import first_contact, is_answer, is_offline, not_reached
from palmette.model.embedded import DEFAULT_MODEL, WAY_OUT

_CONFIG = "config.json"
_log = logging.getLogger(__name__)


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

    error = first_contact(name, _CONFIG, revision=revision)
    if error is None:
        return None
    if not is_answer(error) and not isinstance(error, errors.HFValidationError):
        return _without_hub(name, revision, error)
    if isinstance(error, errors.RevisionNotFoundError):
        raise ModelError(f"{name} has no revision {revision!r} on the hub", "Check the revision.") from error
    if isinstance(error, errors.GatedRepoError):
        raise ModelError(
            f"{name} is gated: the hub gives it only to users who accepted its terms",
            f"Accept them at {constants.ENDPOINT}/{name}, and log in with: hf auth login",
        ) from error
    if isinstance(error, errors.EntryNotFoundError):
        raise ModelError(
            f"{name} on the hub has no {_CONFIG}, so it is not a model that transformers can load",
            "Give a model with safetensors weights.",
        ) from error
    raise ModelError(
        f"there is no model {name!r}: no folder has this name, and the hub does not know it, or keeps it private",
        "Check the name. For a private model, log in with: hf auth login",
    ) from error


def _without_hub(name: str, revision: str | None, error: Exception) -> Path:
    """The folder of an earlier download, or an error."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, _CONFIG, revision=revision)
    if isinstance(cached, str):
        if not is_offline(error):
            _log.warning("%s, so %s is loaded from an earlier download", not_reached(error), name)
        return Path(cached).parent
    way_out = "Check the name, or go online. A folder with safetensors weights or a GGUF file needs no hub."
    raise ModelError(
        f"there is no folder {name!r} on this machine, and {not_reached(error)}",
        WAY_OUT if name == DEFAULT_MODEL else way_out,
    ) from error
