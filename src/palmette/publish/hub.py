"""The Hugging Face hub: the licence of a base model, and uploading a folder."""

from __future__ import annotations

import json
from pathlib import Path

from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from palmette.errors import RunError
from palmette.inference.names import locate, model_kind
from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.loading import first_line

_KNOWN = {DEFAULT_MODEL: "apache-2.0"}


def check_name(to: str) -> None:
    """Check that a repository's name is USER/NAME, as the hub wants it.

    Raises:
        RunError: it has another form.
    """
    try:
        validate_repo_id(to)
    except HFValidationError as error:
        raise RunError(f"{to!r} cannot be a repository: {error}", "Give it as USER/NAME.") from error
    if to.count("/") != 1:
        raise RunError(f"{to!r} cannot be a repository", "Give it as USER/NAME.")


def base_licence(name: str) -> str | None:
    """The licence that a model's card or configuration states, as the hub's identifier. None where it states none.

    Args:
        name: a folder, or a hub id.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    stated = _of_folder(Path(locate(name))) if model_kind(name) == "folder" else _of_hub(name)
    return stated if isinstance(stated, str) and stated not in ("", "other", "unknown") else None


def _of_folder(folder: Path) -> object:
    card, config = folder / "README.md", folder / "config.json"
    try:
        stated = ModelCard.load(card).data.license if card.is_file() else None
        return stated or json.loads(config.read_text(encoding="utf-8")).get("license")
    except (OSError, ValueError, AttributeError):
        return None


def _of_hub(name: str) -> object:
    try:
        return ModelCard.load(name).data.license
    except Exception:  # the library has a class each for no network, no repository and no card
        return None


def upload(folder: Path, to: str, *, private: bool, update: bool) -> str:
    """Upload a folder as a model repository.

    Args:
        folder: the folder.
        to: the repository, USER/NAME.
        private: whether only its owner may see it.
        update: whether it may exist already. The upload is then another commit.

    Returns:
        The repository's address.

    Raises:
        RunError: the hub refuses or cannot be reached, or an existing repository is public and should be private.
    """
    api = HfApi()
    try:
        address = str(api.create_repo(to, private=private, exist_ok=update))
        if private and update and not api.repo_info(to).private:
            raise RunError(f"{to} exists, and is public", "Choose another name, or make it private on the hub first.")
        api.upload_folder(repo_id=to, folder_path=folder, commit_message="Upload with palmette")
    except RunError:
        raise
    except Exception as error:  # the library raises a dozen kinds, those of its network client among them
        raise RunError(
            f"cannot upload to {to}: {first_line(error)}",
            "Log in with `hf auth login`. --update uploads to a repository that exists. --dry-run FOLDER uploads "
            "nothing.",
        ) from error
    return address
