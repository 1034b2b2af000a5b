"""The experiment: its data, its cells, its one command from end to end on a tiny model, and tables that nobody
types.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from palmette.config.recipes import read_settings
from palmette.data.source import read_source
from palmette.errors import RunError
from palmette.studies.sweep.recipe import load_sweep
from tests.support.paths import ROOT
from tests.support.scripts import script

FOLDER = ROOT / "experiments" / "llama_masked"


@pytest.fixture(scope="module")
def experiment() -> ModuleType:
    return script("experiments/llama_masked/run.py")


@pytest.fixture(scope="module")
def table() -> ModuleType:
    return script("experiments/llama_masked/table.py")


def given(folder: Path, **changes: Any) -> Namespace:
    options: dict[str, Any] = {"train": "builtin:train", "data": "builtin:dev", "output": folder, "every": 7}
    options |= {"every_data": 3, "cells": None, "seeds": None, "model": None}
    return Namespace(**(options | changes))


def test_the_data_are_every_so_manyth_document(experiment: ModuleType, tmp_path: Path) -> None:
    experiment.prepare(given(tmp_path / "x"))
    whole, taken = read_source("builtin:train"), read_source(str(tmp_path / "x" / "train.json"))
    assert [d.text for d in taken.documents] == [d.text for d in whole.documents][::7]
    assert 1 < len(taken.documents) < len(whole.documents)
    reasoned = read_source(str(tmp_path / "x" / "rationales.json"))
    asked = [(q.id, q.answers) for d in taken.documents for q in d.questions]
    assert [(q.id, q.answers) for d in reasoned.documents for q in d.questions] == asked, "equal budgets"
    assert all(q.rationale for d in reasoned.documents for q in d.questions)
    plan = json.loads((tmp_path / "x" / "plan.json").read_text())
    assert (plan["train"]["questions"], plan["data"]["source"]) == (len(asked), "builtin:dev")
    assert plan["train"]["answerable"] == sum(bool(answers) for _, answers in asked)
    with pytest.raises(RunError, match=r"begun with train\.\w+ = "):
        experiment.prepare(given(tmp_path / "x", every=8))


def test_cells_are_those_that_were_asked_for(experiment: ModuleType, tmp_path: Path) -> None:
    """Each differs from the base in what its name says; the list by hand."""
    experiment.prepare(given(tmp_path))
    sweep, cells = load_sweep(tmp_path / "cells.yaml")
    assert [(cell.name, cell.seed) for cell in cells[:3]] == [("base", 0), ("base", 1), ("learn_full", 0)]
    found = {cell.name: cell.recipe for cell in cells}
    assert len(found) == 13
    assert len(cells) == 26
    asked = {cell.name: cell.decoders for cell in cells}
    assert asked.pop("rationale") == ("greedy-free-128", "span-free-128")
    assert asked.pop("blah_25") == ("greedy", "span", "greedy-free-25", "span-free-25")
    assert set(asked.values()) == {("greedy", "span")}
    base = found["base"]
    told = {n: (str(r.learn), r.prompt.name, r.reasoning.kind, r.reasoning.tokens) for n, r in found.items()}
    assert told == {
        "base": ("assistant", "plain", "none", 5),
        "learn_full": ("full", "plain", "none", 5),
        "learn_answer": ("answer", "plain", "none", 5),
        "blah_5": ("assistant", "plain", "blah", 5),
        "blah_25": ("assistant", "plain", "blah", 25),
        "json": ("assistant", "json", "none", 5),
        "json_think": ("assistant", "json_think", "none", 5),
        "rationale": ("assistant", "json_think", "rationale", 5),
        "pause_5_shared": ("assistant", "plain", "pause", 5),
        "pause_5_distinct": ("assistant", "plain", "pause", 5),
        "pause_5_shared_staged": ("assistant", "plain", "pause", 5),
        "pause_5_distinct_staged": ("assistant", "plain", "pause", 5),
        "two_turn": ("assistant", "two_turn", "none", 5),
    }
    stages = {n: (r.reasoning.shared, r.reasoning.embedding_epochs) for n, r in found.items() if n.startswith("pause")}
    assert sorted(stages.values()) == [(False, 0), (False, 1), (True, 0), (True, 1)]
    for name, recipe in found.items():
        assert recipe.data.train == [str(tmp_path / f"{'rationales' if name == 'rationale' else 'train'}.json")]
        assert (recipe.train, recipe.lora) == (base.train.model_copy(update={"seed": 1}), base.lora)
    assert (base.train.epochs, base.train.learning_rate) == (1, 1e-3)
    assert (sweep.reference, sweep.evaluate.decoders, sweep.evaluate.retention) == ("base", ["greedy", "span"], True)
    _, rates = load_sweep(tmp_path / "learning_rate.yaml")
    assert [cell.recipe.train.learning_rate for cell in rates] == [1e-4, 3e-4, 1e-3, 3e-3, 1e-2]


def test_some_cells_first(experiment: ModuleType, tmp_path: Path) -> None:
    experiment.prepare(given(tmp_path, cells=["two_turn", "json"], seeds=[3]))
    sweep, cells = load_sweep(tmp_path / "cells.yaml")
    assert [(cell.name, cell.seed) for cell in cells] == [("json", 3), ("two_turn", 3)]
    assert sweep.reference is None
    with pytest.raises(RunError, match="no cell 'jsn'"):
        experiment.prepare(given(tmp_path, cells=["jsn"]))


def test_the_budget_by_hand(experiment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A question a second in training, ten in answering, 6 s a run for the rest:

    T questions take T s a pass, answers to D of them D/10.
    """
    monkeypatch.setattr(experiment, "_TRAINING", 1.0)
    monkeypatch.setattr(experiment, "_ANSWERING", {"greedy": 10.0, "span": 10.0})
    monkeypatch.setattr(experiment, "_REST", 6.0)
    experiment.prepare(given(tmp_path, cells=["base", "pause_5_shared_staged"], seeds=[0]))
    plan = json.loads((tmp_path / "plan.json").read_text())
    trained, asked = plan["train"]["questions"], plan["data"]["questions"]
    minutes = (3 * trained + 2 * (2 * asked / 10 + 6)) / 60  # one pass, and one with a first stage
    told = experiment.budget([tmp_path / "cells.yaml"], 2)
    assert f"cells: 2 runs, {trained} questions to learn from, {asked} to answer" in told
    assert f"about {minutes / 2:.0f} min with 2 processes" in told


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs by the command itself, in two processes."""
    folder = tmp_path_factory.mktemp("experiment")
    words = ["--train", "builtin:train", "--data", "builtin:dev", "--every", "30", "--every-data", "11", "--jobs", "2"]
    words += [
        "--output",
        str(folder / "x"),
        "--cells",
        "base",
        "blah_5",
        "rationale",
        "--seeds",
        "0",
        "--only",
        "cells",
    ]
    command = [sys.executable, str(FOLDER / "run.py"), *words, "--model", str(tiny_folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "table.py" in done.stdout
    return folder / "x"


def test_the_whole_chain(finished: Path, table: ModuleType) -> None:
    record = json.loads((finished / "cells" / "sweep.json").read_text())
    assert [run["cell"] for run in record["runs"]] == ["base", "blah_5", "rationale"]
    assert [sorted(run["measures"]) for run in record["runs"]] == [
        ["greedy", "span"],
        ["greedy", "span"],
        ["greedy-free-128", "span-free-128"],
    ]
    assert (finished / "cells-2.log").is_file()
    names = {"budget", "settings", "greedy", "span", "costs", "failed"}
    found = table.tables(finished)
    assert set(found) == names
    page = table.written((ROOT / "docs" / "results" / "llama-masked.md").read_text(encoding="utf-8"), found)
    em = record["runs"][0]["measures"]["greedy"]["exact"]
    (line,) = [line for line in found["greedy"] if line.startswith("| base |")]
    assert float(line.split("|")[5].split()[0]) == pytest.approx(em, abs=0.5)  # whole percents, of few questions
    assert line in page
    assert line.rstrip(" |").endswith("-")
    (line,) = [line for line in found["greedy"] if line.startswith("| blah_5 |")]
    assert re.match(r" [+-]\d", line.split("|")[-2])  # a difference, and not a lone dash
    seconds = record["runs"][1]["measures"]["span"]["answering_seconds"]
    (line,) = [line for line in found["costs"] if line.startswith("| blah_5 | span |")]
    assert float(line.split("|")[-2]) == pytest.approx(seconds, rel=0.01)
    reasoned = [
        line.split("|")[2].strip() for name in ("greedy", "span") for line in found[name] if "rationale" in line
    ]
    assert reasoned == ["greedy-free-128", "span-free-128"]
    (line,) = [line for line in found["span"] if line.startswith("| rationale |")]
    compared = re.match(r" [+-]\d", line.split("|")[-2])
    assert compared, "compared with the base, which was asked without reasoning"


def test_a_page_keeps_everything_but_its_tables(table: ModuleType) -> None:
    page = "a\n<!-- table: x -->\nold\n<!-- end -->\nb\n<!-- table: y -->\nkept\n<!-- end -->\nc"
    once = table.written(page, {"x": ["new \\1", "lines"]})
    assert once == page.replace("old\n", "\nnew \\1\nlines\n\n")
    assert table.written(once, {"x": ["new \\1", "lines"]}) == once


def test_the_page_has_a_place_for_every_table(table: ModuleType) -> None:
    page = (ROOT / "docs" / "results" / "llama-masked.md").read_text(encoding="utf-8")
    places = {"budget", "settings", "greedy", "span", "baselines", "costs", "failed", "learning-rate"}
    assert {match[2] for match in sys.modules["steps"].PLACE.finditer(page)} == places


@pytest.mark.parametrize("template", ["cells.yaml", "learning_rate.yaml"])
def test_names_in_the_templates_are_filled_in(experiment: ModuleType, template: str) -> None:
    settings = read_settings((FOLDER / template).read_text(encoding="utf-8"), template)
    names = {"train": "T", "rationales": "R", "dev": "D", "output": "O"}
    assert "$" in str(settings)
    assert "$" not in str(experiment.filled(settings, names))


def test_baselines_are_read_off_their_evaluations(table: ModuleType) -> None:
    one = {"exact": 57.64, "f1": 58.0, "valid_json": None, "intervals": {"exact": [50.0, 61.26]}}
    _, _, line = table._baselines([("encoder_minilm", one)])
    assert line == "| encoder minilm | - | 57.6 (50.0 to 61.3) | - | - | 58.0 |"


def test_numbers_as_english_counts_with_them() -> None:
    ordinal = sys.modules["steps"].ordinal
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 112)] == (
        ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "112th"]
    )
