"""The bodies of `merge` and `push`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from palmette import run
from palmette.cli.console import invoked_as, stderr
from palmette.config import load_run_recipe
from palmette.model.loading import dtype_name
from palmette.publish.card import model_card
from palmette.publish.folder import _fill, _publication, _read
from palmette.publish.hub import check_name, upload
from palmette.publish.merge import MergeDType, merge_run


def run_merge(folder: Path, out: Path, dtype: MergeDType) -> None:
    """`palmette merge`."""
    written = dtype_name(merge_run(folder, out, dtype))
    news = stderr()
    if load_run_recipe(folder / run.RECIPE).model.quantization:
        news.print(
            "the adapter was trained on a base in few bits, and merged onto the base as it is: evaluate it again"
        )
    news.print(f"merged into {out}, in {written}; transformers loads it as any model, and so does {invoked_as()}")


def run_push(
    folder: Path,
    to: str,
    *,
    merged: bool,
    dtype: MergeDType,
    evaluations: Sequence[Path],
    licence: str | None,
    data_licences: Sequence[str],
    base_model: str | None,
    private: bool,
    update: bool,
    dry_run: Path | None,
) -> None:
    """`palmette push`."""
    check_name(to)
    if dry_run is not None:
        run.check_absent(dry_run)
    source = _read(folder, merged=merged, base_model=base_model)
    publication = _publication(source, to, evaluations, licence, data_licences)
    card = model_card(publication)
    news = stderr()
    if dry_run is not None:
        with run.whole_folder(dry_run) as staging:
            _fill(staging, source, publication, card, dtype)
        news.print(f"nothing was uploaded; what would be is in {dry_run}")
        return
    with tempfile.TemporaryDirectory(prefix="palmette-") as name:
        staging = Path(name)
        _fill(staging, source, publication, card, dtype)
        news.print(f"uploading {', '.join(sorted(path.name for path in staging.iterdir()))}")
        news.print(f"done: {upload(staging, to, private=private, update=update)}")
