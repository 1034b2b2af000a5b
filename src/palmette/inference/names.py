"""What a model's name means: a run, a model folder, a GGUF file, or an id on the Hugging Face hub.

Every command, recipe key and function that takes a model's name asks this module, and no other place expands `~`. A
name is looked up in this order: `reader`, the run that comes with the package; a run folder, a GGUF file (by its
suffix, in any case), a folder, a hub id. A name that cannot be a hub id, such as `./models/base`, is a path, so a
missing folder is reported and the hub is not asked for it. Nor is it asked for a name that `nearby.is_local` takes for
a mistyped run.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from palmette import run
from palmette.config.recipes import Recipe, load_run_recipe
from palmette.config.sections import ModelSection
from palmette.errors import ModelError, PalmetteError, RunError, reason_of
from palmette.files import expand
from palmette.inference.fingerprint import BASE, check_base
from palmette.inference.nearby import check_there, first_inside, is_local, suggestion
from palmette.inference.reader import READER, reader_folder
from palmette.model.embedded import DEFAULT_MODEL, find_gguf
from palmette.model.files import has_head
from palmette.model.hub import ask_hub

Kind = Literal["run", "folder", "gguf", "hub"]
ModelName = str | os.PathLike[str]

_GGUF = ".gguf"
# Of a model, and of an adapter, for which transformers finds the base.
_CONFIGURATIONS = ("config.json", "adapter_config.json")
# One or two parts of letters, digits, ".", "_" and "-". The hub allows no part that starts with "." or "-".
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)


@dataclass(frozen=True)
class ModelSource:
    """What a name stands for.

    Attributes:
        name: the name as it was given.
        kind: "run", "folder", "gguf" or "hub".
        section: which base weights are loaded and how. For a run with a full model these are the run's own weights.
        recipe: the recipe of a run. None for any other model.
        folder: the folder of a run. None for any other model.
        trained: the folder in a run that holds what was trained. None for any other model, or for an unfinished run.
    """

    name: str
    kind: Kind
    section: ModelSection
    recipe: Recipe | None = None
    folder: Path | None = None
    trained: Path | None = None

    @property
    def is_full(self) -> bool:
        """Whether a run trained all weights, so that no adapter is put on a base."""
        return self.trained is not None and self.trained.name == run.FULL_MODEL

    @property
    def adapter(self) -> Path | None:
        """The folder of the adapter that is put on the base, if there is one."""
        return None if self.is_full else self.trained

    @property
    def base(self) -> str:
        """The name of the model that a run started from. For any other model, its own name."""
        return self.recipe.model.name if self.recipe is not None else self.name


def resolve_model(name: ModelName, *, finished: bool = True) -> ModelSource:
    """Decide what a model's name means.

    Args:
        name: a run folder, a model folder, a GGUF file, or a hub id.
        finished: whether a run must be finished.

    Raises:
        ModelError: the name is a path, and nothing is there.
        RunError: the run is not finished.
        RecipeError: the run's recipe cannot be read.
        ModelError: the base model of a run with an adapter is missing or has changed.
    """
    text = os.fspath(name)
    kind, path = _kind_of(text)
    if kind == "run":
        return _resolve_run(text, path, finished)
    return ModelSource(text, kind, ModelSection(name=locate(text)))


def resolve_run(name: ModelName, *, finished: bool = True) -> ModelSource:
    """Like `resolve_model`, for a name that must stand for a run.

    Args:
        name: a run folder.
        finished: whether the run must be finished.

    Raises:
        RunError: it is not a run folder, or not finished.
        RecipeError: the run's recipe cannot be read.
        ModelError: the base model of a run with an adapter is missing or has changed.
    """
    text = os.fspath(name)
    check_run_folder(text)
    return _resolve_run(text, run_path(text), finished)


def check_run_folder(name: ModelName) -> None:
    """Check that a name stands for a run folder, finished or not.

    Raises:
        RunError: it does not. If there is nothing of this name, the way out names the run that is most like it.
    """
    folder = run_path(name)
    if not folder.exists():
        way_out = suggestion(os.fspath(name), "Give a folder that `palmette train` made.")
        raise RunError(f"{os.fspath(name)} is not a run folder: there is nothing of this name", way_out)
    run.check_run(folder)


def run_path(name: ModelName) -> Path:
    """The folder that a run's name stands for, whether or not anything is there. A folder `reader` is `./reader`."""
    text = os.fspath(name)
    return (reader_folder() if text == READER else None) or expand(text)


def model_kind(name: ModelName) -> Kind:
    """The kind of a name, whether or not anything is there. A path to nothing counts as a folder."""
    return _kind_of(os.fspath(name))[0]


def locate(name: ModelName) -> str:
    """Where the weights of a model that is not a run are loaded from: an existing folder or GGUF file, or a hub id.

    Raises:
        ModelError: the name is a path, and nothing is there.
    """
    text = os.fspath(name)
    kind, path = _kind_of(text)
    if kind == "hub":
        return text
    if kind == "gguf" and not path.is_file():
        raise ModelError(f"there is no GGUF file {text!r}", suggestion(text, "Check the path."))
    if kind != "gguf" and path.is_file():
        raise ModelError(
            f"{text!r} is a file, and no model", "Give the folder of a run or of a model, a GGUF file, or a hub id."
        )
    if kind != "gguf" and not path.is_dir():
        way_out = suggestion(text, "Check the path. An id on the hub has the form USER/NAME.")
        raise ModelError(f"there is no model folder {text!r}", way_out)
    return str(path)


def check_hub(section: ModelSection) -> Path | None:
    """Check that the hub has the model of a section, if it is one of the hub's. It is asked once, and quickly.

    Returns:
        The folder of an earlier download, which serves if the hub cannot be reached. None in any other case.

    Raises:
        ModelError: the hub does not have it, or it cannot be reached and there was no earlier download.
    """
    name = section.name
    if model_kind(name) != "hub" or (name == DEFAULT_MODEL and find_gguf()):
        return None
    try:
        return ask_hub(name, section.revision)
    except ModelError as error:
        raise ModelError(error.problem, suggestion(name, error.way_out)) from error


def resolve_answerer(name: ModelName) -> ModelSource:
    """Decide what the name of a model means that is to give answers, and check all that needs no weights.

    Nothing heavy is imported, so a mistake is found within a fraction of a second. Only the hub may take longer.

    Args:
        name: a run folder, a model folder, a GGUF file, or a hub id.

    Raises:
        RunError: the run is not finished, or is a reward model.
        ModelError: there is no such model, it is a run whose base model has changed, or a folder without a model.
    """
    source = resolve_model(name)
    check_answers(source)
    if source.kind == "folder":
        _check_folder(source.name, Path(source.section.name))
    check_hub(source.section)
    return source


def runs_in(folder: Path) -> tuple[dict[str, ModelSource], list[str]]:
    """The runs in a folder that answer questions, by their paths, and why the others do not.

    Args:
        folder: the folder, such as runs.

    Raises:
        RunError: there is no such folder, or no run in it answers questions.
    """
    check_there(folder, "Give a folder that holds runs.")
    sources: dict[str, ModelSource] = {}
    others: list[str] = []
    for entry in sorted(one for one in folder.iterdir() if run.is_run(one)):
        try:
            sources[str(entry)] = resolve_answerer(str(entry))
        except PalmetteError as error:
            others.append(error.problem)
    if not sources:
        raise RunError(f"no run in {folder} answers questions", others[0] if others else "Train one: palmette train.")
    return sources, others


def check_answers(source: ModelSource) -> None:
    """Check that a model gives answers.

    Args:
        source: what its name stands for.

    Raises:
        RunError: it is a reward model.
    """
    if source.trained is not None and has_head(source.trained, "reward"):
        raise RunError(f"{source.folder} is a reward model, which gives no answers", "Try palmette eval reward.")


def _check_folder(text: str, folder: Path) -> None:
    if not any((folder / name).is_file() for name in _CONFIGURATIONS):
        inside, way_out = first_inside(folder), "Give the folder of a run, or one with config.json and safetensors."
        raise ModelError(
            f"the folder {text!r} is no run and no model", f"Did you mean {inside}? {way_out}" if inside else way_out
        )


def absolute_name(name: ModelName) -> str:
    """A model's name that means the same in any working folder: an absolute path, or a hub id as it is.

    Raises:
        ModelError: the name is a path, and nothing is there.
    """
    text = os.fspath(name)
    return text if model_kind(text) == "hub" else str(Path(locate(text)).absolute())


def check_run_base(folder: Path, section: ModelSection) -> None:
    """Check that the base model of a run is still the one that the run was trained on.

    Args:
        folder: the run folder.
        section: the section of its recipe that names the base model.

    Raises:
        ModelError: the base model is missing or has changed, or a name that meant a folder would now be looked up on
            the hub.
    """
    manifest = run.read_manifest(folder)
    kind = model_kind(section.name)
    # A run of a version that kept no fingerprint. A run that was published names its base on the hub.
    was_local = "command" in manifest and (manifest.get("model") or {}).get("sha256") is not None
    if BASE not in manifest and was_local and kind == "hub" and section.name != DEFAULT_MODEL:
        raise ModelError(
            f"the base model {section.name!r} of {folder} was a folder, which is not here",
            f"Run the command where it is, or write its whole path into {folder / run.RECIPE}.",
        )
    check_base(folder, manifest, locate(section.name) if BASE in manifest else section.name)


def _resolve_run(text: str, folder: Path, finished: bool) -> ModelSource:
    trained = run.trained_folder(folder) if finished or run.is_finished(folder) else None
    recipe = load_run_recipe(folder / run.RECIPE)
    section = recipe.model
    if trained is not None and trained.name == run.FULL_MODEL:
        section = section.model_copy(update={"name": str(trained), "revision": None, "init": "pretrained"})
    elif trained is not None:
        check_run_base(folder, section)
    return ModelSource(text, "run", section, recipe, folder, trained)


def _kind_of(text: str) -> tuple[Kind, Path]:
    """The kind of a name, and the path that it would be."""
    path = run_path(text)
    try:
        if text and run.is_run(path):
            return "run", path
        if path.suffix.lower() == _GGUF:
            return "gguf", path
        if (text and path.is_dir()) or not _HUB_ID.fullmatch(text) or (text != DEFAULT_MODEL and is_local(text)):
            return "folder", path
    except OSError as error:
        raise ModelError(
            f"{text!r} cannot be a model's name: {reason_of(error)}", "Give a folder or a hub id."
        ) from error
    return "hub", path
