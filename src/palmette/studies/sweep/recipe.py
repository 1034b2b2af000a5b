"""Sweeps vary some settings of one recipe. Each combination is a cell with a recipe of its own."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from palmette.config.recipes import Recipe, read_file, read_section
from palmette.config.sections import Section
from palmette.errors import RecipeError
from palmette.files import expand
from palmette.studies.evaluation import EvaluateSection
from palmette.train.stages import refuse_other_recipe

SWEEP, CELLS, RUN = "sweep.yaml", "cells", "run"
_DECODERS = "evaluate.decoders"
_MOST_LETTERS = 80


class Sweep(Section):
    """A sweep: every combination of the values in `vary`, or the `cells` by name, each with every seed.

    Attributes:
        output: the folder for all runs and results. A sweep that was stopped continues in it.
        base: a recipe, as a file or as a map of settings. Its `output` has no effect.
        vary: values to try, by dotted key such as train.learning_rate. Every combination is a cell.
        cells: settings by dotted key for each named cell, instead of `vary`. A cell may set evaluate.decoders to have
            its own decoders.
        seeds: values of train.seed. By default, the seed of the base.
        reference: the cell that the others are compared with, question by question.
        evaluate: what the cells are measured on.
    """

    output: str
    base: str | dict[str, Any] = Field(default_factory=dict)
    vary: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    cells: dict[str, dict[str, Any]] = Field(default_factory=dict)
    seeds: list[int] = Field(default_factory=list)
    reference: str | None = None
    evaluate: EvaluateSection = EvaluateSection()


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: the name of the cell, which is the same for all its seeds.
        varied: the settings in which it differs from the base, by dotted key.
        recipe: its full recipe, whose output is the run folder.
        decoders: the decoders that answer questions with it.
    """

    name: str
    varied: Mapping[str, Any]
    recipe: Recipe
    decoders: tuple[str, ...]

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.recipe.train.seed

    @property
    def folder(self) -> Path:
        """The folder that holds the run and what was measured on it."""
        return self.run.parent

    @property
    def run(self) -> Path:
        """The run folder."""
        return Path(self.recipe.output)


def load_sweep(path: Path) -> tuple[Sweep, list[Cell]]:
    """Read a sweep and the recipes of all its cells. All of them are checked before the first one runs.

    Returns:
        The sweep with its base written out, and its cells in the order in which they run. Seeds vary fastest.

    Raises:
        RecipeError: the file is missing or not YAML, a key is unknown (the message names the nearest), a value is out
            of bounds, or a cell is repeated.
    """
    source = str(path)
    values = read_file(path)
    refuse_other_recipe(values, source, "sweep")
    sweep = read_section(Sweep, values, source)
    if sweep.vary and sweep.cells:
        raise RecipeError(f"{source} has both `vary` and `cells`", "Keep one of them.")
    if isinstance(sweep.base, str):
        sweep = sweep.model_copy(update={"base": read_file(expand(sweep.base))})
    return sweep, cells_of(sweep, source)


def cells_of(sweep: Sweep, source: str) -> list[Cell]:
    """The cells of a sweep whose base is a map.

    Args:
        sweep: the sweep.
        source: what error messages call it.

    Raises:
        RecipeError: a key is unknown, a value is out of bounds, or a cell is repeated.
    """
    assert not isinstance(sweep.base, str)
    cells = []
    for name, varied in _combinations(sweep, source):
        where = f"{source}, cell {name}"
        evaluation = _evaluation(sweep, varied, where)
        of_recipe = {key: value for key, value in varied.items() if key != _DECODERS}
        for chosen in [{"train.seed": seed} for seed in sweep.seeds] or [{}]:
            settings = {"output": "", **of_recipe, **chosen}
            recipe = read_section(Recipe, _with(sweep.base, settings, where), where)
            folder = expand(sweep.output) / CELLS / f"{name}_seed={recipe.train.seed}"
            recipe = recipe.model_copy(update={"output": str(folder / RUN)})
            cells.append(Cell(name, varied, recipe, evaluation.decoders_for(recipe)))
    if sweep.reference is not None and sweep.reference not in {cell.name for cell in cells}:
        known = ", ".join(dict.fromkeys(cell.name for cell in cells))
        raise RecipeError(f"{source}: reference = {sweep.reference!r} is no cell of the sweep", f"Cells are: {known}.")
    twice = _first_repeated(cell.folder.name for cell in cells)
    if twice:
        raise RecipeError(f"{source}: the cell {twice} stands twice", "Take one of the equal values or seeds out.")
    return cells


def _evaluation(sweep: Sweep, varied: Mapping[str, Any], where: str) -> EvaluateSection:
    """What a cell is measured on, with the decoders that it may have of its own."""
    if _DECODERS not in varied:
        return sweep.evaluate
    if not sweep.cells:
        raise RecipeError(f"{where}: {_DECODERS} is not a setting to vary", "List all decoders under `evaluate`.")
    return read_section(EvaluateSection, {"decoders": varied[_DECODERS]}, f"{where}, evaluate")


def _combinations(sweep: Sweep, source: str) -> list[tuple[str, dict[str, Any]]]:
    """The name and the settings by dotted key of every cell."""
    if sweep.cells:
        cells = [(_plain(name), varied) for name, varied in sweep.cells.items()]
    else:
        values = [dict(zip(sweep.vary, chosen, strict=True)) for chosen in itertools.product(*sweep.vary.values())]
        cells = [(grid_name(varied), varied) for varied in values]
    for name, varied in cells:
        for key in varied:
            if key in ("output", "train.seed"):
                way_out = "Set `output` of the sweep." if key == "output" else "Use `seeds`."
                raise RecipeError(f"{source}, cell {name}: {key} is not a setting to vary", way_out)
    return cells


def grid_name(varied: Mapping[str, Any]) -> str:
    """A cell's name, made from its settings. Keys are shortened to their last part if these parts all differ.

    >>> grid_name({"train.learning_rate": 1e-4, "lora.targets": ["q_proj", "v_proj"]})
    'learning_rate=0.0001_targets=q_proj+v_proj'
    """
    keys = short_keys(list(varied))
    return _plain(
        "_".join(f"{key}={format_value(value)}" for key, value in zip(keys, varied.values(), strict=True)) or "base"
    )


def short_keys(keys: Sequence[str]) -> list[str]:
    """The last parts of dotted keys, or the keys themselves where two of them end alike.

    >>> short_keys(["train.learning_rate", "lora.rank"]), short_keys(["lora.rank", "judge.rank"])
    (['learning_rate', 'rank'], ['lora.rank', 'judge.rank'])
    """
    last = [key.rpartition(".")[2] for key in keys]
    return last if len(set(last)) == len(last) else list(keys)


def format_value(value: Any) -> str:
    """The value of a setting as text for names and tables."""
    return "+".join(map(format_value, value)) if isinstance(value, list) else str(value)


def _plain(name: str) -> str:
    """A name that a folder can have. If it had to be changed or cut, a hash is added so that it stays unique."""
    plain = re.sub(r"[^\w.=+-]", "-", name)[:_MOST_LETTERS].lstrip(".")
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _with(base: Mapping[Any, Any], settings: Mapping[str, Any], source: str) -> dict[Any, Any]:
    """A copy of the base with the settings put in by dotted key."""
    result = dict(base)
    for key, value in settings.items():
        *sections, last = key.split(".")
        place = result
        for index, section in enumerate(sections):
            inner = place.get(section, {})
            if not isinstance(inner, Mapping):
                raise RecipeError(
                    f"{source}: {'.'.join(sections[: index + 1])} is not a map of settings, so {key!r} cannot be set",
                    "Name a setting as section.key, such as train.learning_rate.",
                )
            place[section] = dict(inner)
            place = place[section]
        place[last] = value
    return result


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]
