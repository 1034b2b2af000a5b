"""Runs to publish."""

from __future__ import annotations

from pathlib import Path

import pytest

from palmette.train.run import train
from tests.support.command import palmette
from tests.support.data import squad_file
from tests.support.recipes import sft_recipe
from tests.support.runs import quiet


@pytest.fixture(scope="module")
def trained(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learned something, on a file and on built-in documents, with an evaluation and a calibration beside
    it.
    """
    folder = tmp_path_factory.mktemp("publish")
    data = squad_file(folder / "secret.json")
    changes = {"data__train": [str(data), "builtin:dev"], "data__limit_documents": 2, "lora__dropout": 0.0}
    train(sft_recipe(tiny_folder, folder / "run", **changes, train__learning_rate=0.05), quiet)
    with pytest.MonkeyPatch.context() as patch:
        words = ["eval", "squad", "--model", folder / "run", "--data", "builtin:test", "--limit", "2"]
        assert palmette(patch, *words, "--out", folder / "eval") == 0
        assert palmette(patch, "calibrate", "--model", folder / "run", "--data", "builtin:test") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def full(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full") / "run"
    train(sft_recipe(tiny_folder, folder, train__method="full", train__epochs=1), quiet)
    return folder
