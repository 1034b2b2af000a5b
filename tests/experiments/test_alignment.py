"""The experiment on preferences: parts of the data that nothing shares, and a chain whose names are filled in."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from palmette.config.recipes import Recipe
from palmette.data.source import read_source
from palmette.errors import RunError
from palmette.studies.chain.recipe import load_chain
from tests.support.paths import ROOT
from tests.support.scripts import script

FOLDER = ROOT / "experiments" / "alignment"


@pytest.fixture(scope="module")
def experiment() -> ModuleType:
    return script("experiments/alignment/run.py")


def given(folder: Path, **changes: Any) -> Namespace:
    options: dict[str, Any] = {"train": "builtin:train", "data": "builtin:dev", "output": folder, "every": 1}
    options |= {"every_data": 2, "stages": None, "seeds": None, "model": None}
    return Namespace(**(options | changes))


@pytest.mark.parametrize("every", [1, 3])
def test_what_is_preferred_was_not_fine_tuned_on(experiment: ModuleType, tmp_path: Path, every: int) -> None:
    """Half of what is used is fine-tuned on, a quarter is for preferences, and no document is in both."""
    experiment.prepare(given(tmp_path, every=every))
    texts = [document.text for document in read_source("builtin:train").documents]
    parts = {
        name: [document.text for document in read_source(str(tmp_path / f"{name}.json")).documents]
        for name in ("fine_tuning", "preferences", "dev")
    }
    assert parts["fine_tuning"] == texts[:: 2 * every]
    assert parts["preferences"] == texts[every :: 4 * every]
    assert not set(parts["fine_tuning"]) & set(parts["preferences"])
    assert parts["dev"] == [document.text for document in read_source("builtin:dev").documents][::2]
    plan = json.loads((tmp_path / "plan.json").read_text())
    assert [plan[name]["documents"] for name in parts] == [len(part) for part in parts.values()]
    with pytest.raises(RunError, match=r"begun with \w+\.\w+ = "):
        experiment.prepare(given(tmp_path, every=every + 1))


def test_the_chain_is_filled_in_and_may_begin_with_some_stages(experiment: ModuleType, tmp_path: Path) -> None:
    file = experiment.prepare(given(tmp_path, stages=["fine-tuned", "held-out"], seeds=[5], model="some/model"))
    _, (tuned, held_out) = load_chain(file)
    assert [(stage.name, stage.seed) for stage in (tuned, held_out)] == [("fine-tuned", 5), ("held-out", 5)]
    assert isinstance(tuned.settings, Recipe)
    assert tuned.settings.model.name == "some/model"
    assert held_out.settings.data == str(tmp_path / "dev.json")
    assert "$" not in file.read_text()
    chain, _ = load_chain(experiment.prepare(given(tmp_path, stages=["fine-tuned"], model="some/model")))
    assert (chain.evaluate.comparisons, chain.seeds) == (None, [0, 1])
    with pytest.raises(RunError, match="no stage 'grop'"):
        experiment.prepare(given(tmp_path / "x", stages=["grop"]))
