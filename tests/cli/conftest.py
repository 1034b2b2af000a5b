"""What tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.support.command import palmette
from tests.support.data import squad_file


@pytest.fixture(scope="module")
def run_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made by the command itself."""
    folder = tmp_path_factory.mktemp("cli")
    recipe = {
        "output": str(folder / "run"),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(squad_file(folder / "train.json"))]},
        "train": {"epochs": 1},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.MonkeyPatch.context() as patch:
        assert palmette(patch, "train", "sft", folder / "recipe.yaml") == 0
    return folder / "run"
