"""The stage that docs/how-to/add-a-stage.md adds, with the very code of that page."""

from __future__ import annotations

import json
import math
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import yaml

from palmette.data.source import read_source
from palmette.model.loading import load_model
from palmette.pages.training.pictures import draw_run
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.train.run import TrainedRun, resume, train
from palmette.train.stages import STAGES, Stage, read_recipe
from palmette.train.steps.callbacks import TrainingInterrupted
from palmette.train.steps.step import nll_objective
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from tests.support.paths import ROOT
from tests.support.runs import adapter, assert_same, on_step, quiet

PAGE = ROOT / "docs" / "how-to" / "add-a-stage.md"


@pytest.fixture(scope="module")
def blocks() -> SimpleNamespace:
    """The code of the page: the stage's module, its row, its figures, its recipe."""
    found = re.findall(r"```(python|yaml)\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert [language for language, _ in found] == ["python", "python", "python", "yaml"]
    return SimpleNamespace(
        **dict(zip(("module", "row", "figures", "recipe"), (code for _, code in found), strict=True))
    )


@pytest.fixture
def focal(blocks: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The page followed: both modules are there, and the row is in the table."""
    modules = {"palmette.train.focal": blocks.module, "palmette.pages.training.focal": blocks.figures}
    for name, code in modules.items():
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(compile(code, str(PAGE), "exec"), module.__dict__)
    (row,) = eval(f"({blocks.row})", {"Stage": Stage})
    monkeypatch.setitem(STAGES, row.name, row)
    return sys.modules["palmette.train.focal"]


def recipe_file(blocks: SimpleNamespace, tiny_folder: Path, out: Path) -> Path:
    """The page's recipe for a tiny model: four steps, with dropout, so that random state matters."""
    values = {
        **yaml.safe_load(blocks.recipe),
        "output": str(out),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": ["builtin:dev"], "limit_documents": 4},
        "lora": {"rank": 2, "dropout": 0.2},
        "train": {"epochs": 2, "trees_per_step": 2, "learning_rate": 0.01, "save_every": 1},
    }
    file = out.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(values))
    return file


def test_it_trains_resumes_and_shows_its_figures(
    focal: ModuleType, blocks: SimpleNamespace, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = read_recipe(recipe_file(blocks, tiny_folder, tmp_path / "straight"))
    assert type(recipe) is focal.FocalRecipe
    finished = train(recipe)
    assert finished == TrainedRun(tmp_path / "straight", "focal")
    assert json.loads((finished.folder / "manifest.json").read_text())["stage"] == "focal"
    log = [json.loads(line) for line in (finished.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    assert all(0 < line["focus"] < 1 for line in log)

    stopped = read_recipe(recipe_file(blocks, tiny_folder, tmp_path / "stopped"))
    with monkeypatch.context() as patch:
        on_step(patch, 1, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterrupted, match="palmette train focal --resume"):
            train(stopped)
    assert resume(tmp_path / "stopped").stage == "focal"
    assert_same(adapter(finished.folder), adapter(tmp_path / "stopped"))

    draw_run(finished.folder, quiet)
    html = (finished.folder / "training.html").read_text(encoding="utf-8")
    assert "<title>Focal loss, straight</title>" in html
    assert "Weight of the learned tokens" in html
    assert "focal loss (nats)" in html
    assert "Other figures" not in html


def test_its_command_is_there(blocks: SimpleNamespace) -> None:
    """In a process that has the row before it registers its commands; the stage's modules are not there, nor needed."""
    code = (
        "from palmette.train.stages import STAGES, Stage\n"
        f"(row,) = ({blocks.row})\nSTAGES[row.name] = row\n"
        "from typer.testing import CliRunner\nfrom palmette.cli.main import app\n"
        "print(CliRunner().invoke(app, ['train', '--help'], env={'COLUMNS': '200'}).output)\n"
        "print(CliRunner().invoke(app, ['train', 'focal', '--help'], env={'COLUMNS': '200'}).output)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("Fine-tune a model with a focal loss") == 2
    assert "--resume" in done.stdout


def test_its_loss_is_the_focal_loss(focal: ModuleType, tiny_folder: Path) -> None:
    """Of a token of probability p it is -(1 - p)^2 log p; each p is taken from the plain loss of that token alone."""
    loaded = load_model(str(tiny_folder), dtype="float32")
    task = ExtractiveQa(ChatTemplate(loaded.tokenizer))
    document = read_source("builtin:dev", limit_documents=1).documents[0]
    batch = PackedBatch.from_trees([[task.training_tree(document)]])
    objective = focal.FocalObjective(2.0)
    learned = batch.learn_BT.nonzero().tolist()
    assert len(learned) > 10
    expected = 0.0
    with torch.no_grad():
        for row, column in learned:
            alone = torch.zeros_like(batch.learn_BT)
            alone[row, column] = 1.0
            surprise = float(nll_objective(loaded.model, replace(batch, learn_BT=alone), 1.0))
            weight = float(batch.learn_BT[row, column])
            expected += weight * (1 - math.exp(-surprise)) ** 2 * surprise
        found = float(objective(loaded.model, batch, batch.learn_weight))
    assert found == pytest.approx(expected / batch.learn_weight, rel=1e-4)
    assert 0 < objective.tally.take()["focus"] < 1
