"""The folder that is uploaded for a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmette import __version__, run
from palmette.config.recipes import Recipe
from palmette.data.records import Document, Question
from palmette.errors import RunError
from palmette.evaluate.record import MADE_BY
from palmette.evaluate.squad import METRICS
from palmette.files import expand
from palmette.inference.base import source_tokenizer
from palmette.inference.calibration import CALIBRATION
from palmette.inference.licence import base_licence, trained_licence
from palmette.inference.names import resolve_run
from palmette.inference.task import recipe_prompt, recipe_task
from palmette.model.loading import weights_hash
from palmette.publish.card import Kind, Publication
from palmette.publish.joined_tokens import count_joined, is_joined
from palmette.publish.merge import ORIGIN, MergeDType, mergeable, merged_model, origin, write_merged
from palmette.publish.public import (
    check_licence,
    hub_base,
    public_manifest,
    public_recipe,
    public_source,
    read_figures,
    sources_of,
)
from palmette.tree.segments import decode_tokens

_CARD = "README.md"


EXAMPLE = Document("example", "The ferry leaves at 7:40 from pier 3.", (Question("0", "When does the ferry leave?"),))


@dataclass(frozen=True)
class FinishedRun:
    """The run to publish, read once."""

    folder: Path
    trained: Path
    kind: Kind
    recipe: Recipe
    manifest: dict[str, Any]
    base: str


def read_finished_run(folder: Path, *, merged: bool, base_model: str | None) -> FinishedRun:
    """Read a run to publish.

    Args:
        folder: the run folder.
        merged: whether the merged model is to be published instead of the adapter.
        base_model: hub id of the base model, where the run names a folder or file.

    Raises:
        RunError: the run is not finished, or was not fine-tuned on documents and questions. Or `merged` is set and the
            adapter cannot be merged.
        ModelError: see `resolve_run`.
    """
    source = resolve_run(folder)
    trained, recipe, full = source.trained, source.recipe, source.is_full
    assert trained is not None
    assert recipe is not None
    if merged:
        mergeable(folder)
    manifest = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8"))
    stage = manifest.get("stage", "sft")
    if recipe.data.kind != "qa" or stage != "sft":
        raise RunError(
            f"{folder} was trained on {recipe.data.kind} data by `train {stage}`, and the card describes fine-tuning "
            "on documents and questions",
            "Merge it (palmette merge), and write its card by hand.",
        )
    kind: Kind = "merged" if merged else "full" if full else "adapter"
    return FinishedRun(folder, trained, kind, recipe, manifest, hub_base(recipe.model.name, base_model))


def describe_publication(
    finished: FinishedRun, to: str, evaluations: Sequence[Path], licence: str | None, data_licences: Sequence[str]
) -> Publication:
    """Collect everything that the card of a run says.

    Args:
        finished: the run.
        to: the repository on the hub, as USER/NAME.
        evaluations: folders of evaluations of this run, for their figures.
        licence: licence of what is published. If None, that of the reader for a run that began from it, and else that
            of the base model.
        data_licences: licences of the training data, each for all sources or as SOURCE=LICENCE.

    Raises:
        RunError: a licence is not known, or an evaluation is not of this run.
    """
    weights = weights_hash(str(finished.trained))
    stated = licence or trained_licence(finished.folder)
    stated = stated or base_licence(finished.recipe.model.name) or base_licence(finished.base)
    if stated is None:
        raise RunError(f"the licence of {finished.base} is not known here", "Give one: --licence LICENCE.")
    return Publication(
        to=to,
        kind=finished.kind,
        base=finished.base,
        quantization=finished.recipe.model.quantization,
        licence=check_licence(stated),
        sources=sources_of(finished.manifest, data_licences),
        recipe=_recipe(finished),
        figures=[read_figures(expand(folder), weights, MADE_BY, METRICS) for folder in evaluations],
        **_prompts(finished),
        calibrated=_calibrated(finished),
        version=finished.manifest["versions"].get("palmette", __version__),
        only_here=_only_here(finished.recipe),
    )


def _only_here(recipe: Recipe) -> str:
    """Why no other program can ask a run's model as it was trained. It is empty if another program can."""
    if recipe_prompt(recipe).two_turns:
        return "it is asked in two turns, first whether there is an answer, then for the answer"
    kinds = {
        "blah": "its answers begin with placeholders that later tokens must not attend to",
        "pause": "its answers begin with learned tokens that no vocabulary has (pause.safetensors)",
    }
    return kinds.get(recipe.reasoning.kind, "")


def _recipe(finished: FinishedRun) -> str:
    return public_recipe(finished.recipe.to_yaml(), finished.base, finished.manifest)


def _calibrated(finished: FinishedRun) -> bool:
    """Whether a calibration is published. It holds for the weights that it was fitted with, so not for merged ones."""
    return finished.kind != "merged" and (finished.trained / CALIBRATION).is_file()


def _prompts(finished: FinishedRun) -> dict[str, Any]:
    """The example of the card, and how many prompts another program would encode differently."""
    tokenizer = source_tokenizer(resolve_run(finished.folder))
    task = recipe_task(finished.recipe, tokenizer)
    tokens = task.prompt_tokens(EXAMPLE, EXAMPLE.questions[0])
    return {
        "prompt": decode_tokens(tokenizer, tokens),
        "prompt_tokens": tokens,
        "joined": count_joined(finished.recipe, task, tokenizer),
        "example_joined": is_joined(tokens, tokenizer),
    }


def fill_folder(staging: Path, finished: FinishedRun, publication: Publication, card: str, dtype: MergeDType) -> None:
    """Write everything to upload into a folder."""
    manifest = public_manifest(finished.manifest, finished.base)
    if finished.kind == "merged":
        write_merged(merged_model(finished.folder, finished.recipe), finished.recipe, staging, dtype)
        made_of = origin(finished.folder, finished.recipe.model_dump(), manifest)
        public = {key: made_of[key] for key in ("adapter_sha256", "merged_onto")}
        run.write_json(staging / ORIGIN, {**public, "palmette": __version__})
    else:
        shutil.copytree(finished.trained, staging, ignore=shutil.ignore_patterns(_CARD, ".*"), dirs_exist_ok=True)
    if finished.kind == "adapter":
        _rewrite(staging / "adapter_config.json", {"base_model_name_or_path": finished.base})
    if _calibrated(finished):
        fitted = json.loads((staging / CALIBRATION).read_text(encoding="utf-8"))
        _rewrite(staging / CALIBRATION, {"source": public_source(fitted["source"], fitted["sha256"])})
    run.write_text(staging / run.RECIPE, publication.recipe)
    run.write_json(staging / run.MANIFEST, manifest)
    run.write_text(staging / _CARD, card)


def _rewrite(path: Path, changes: dict[str, Any]) -> None:
    run.write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})
