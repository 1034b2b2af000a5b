"""A run uploaded to the Hugging Face hub, or written as it would be uploaded."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from palmette import run
from palmette.publish.card import model_card
from palmette.publish.folder import describe_publication, fill_folder, read_finished_run
from palmette.publish.hub import check_name, upload
from palmette.publish.merge import MergeDType


@dataclass(frozen=True)
class PushSettings:
    """Settings of an upload and its card.

    Attributes:
        merged: whether to upload the merged model instead of the adapter.
        dtype: the dtype of a merged model.
        evaluations: folders of evaluations of this run, whose figures the card shows.
        licence: the licence of what is published. The base model's if None.
        data_licences: LICENCE for all data, or SOURCE=LICENCE.
        base_model: the hub id of the base model, where the run names a file or folder of this machine.
        private: whether a new repository is private.
        update: whether the repository may exist already.
    """

    merged: bool = False
    dtype: MergeDType = "auto"
    evaluations: Sequence[Path] = ()
    licence: str | None = None
    data_licences: Sequence[str] = ()
    base_model: str | None = None
    private: bool = False
    update: bool = False


def push_run(
    folder: Path, to: str, settings: PushSettings, say: Callable[[str], object], *, dry_run: Path | None = None
) -> None:
    """Upload a finished run with a model card.

    Args:
        folder: the run.
        to: the repository, as USER/NAME.
        settings: the settings.
        say: called with a line at each step.
        dry_run: upload nothing, and write what would be uploaded into this folder, which must not exist.

    Raises:
        RunError: the run is not finished or cannot be published, a licence is not known, or the upload fails.
    """
    check_name(to)
    if dry_run is not None:
        run.check_absent(dry_run)
    source = read_finished_run(folder, merged=settings.merged, base_model=settings.base_model)
    publication = describe_publication(source, to, settings.evaluations, settings.licence, settings.data_licences)
    card = model_card(publication)
    if dry_run is not None:
        with run.whole_folder(dry_run) as staging:
            fill_folder(staging, source, publication, card, settings.dtype)
        say(f"Nothing was uploaded. What would be uploaded is in {dry_run}")
        return
    with tempfile.TemporaryDirectory(prefix="palmette-") as name:
        staging = Path(name)
        fill_folder(staging, source, publication, card, settings.dtype)
        say(f"uploading {', '.join(sorted(path.name for path in staging.iterdir()))}")
        say(f"done: {upload(staging, to, private=settings.private, update=settings.update)}")
