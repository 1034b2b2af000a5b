"""The Hugging Face hub: names of repositories, and uploading a folder."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from palmette.errors import RunError
from palmette.model.tokenizer import first_line


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
