"""What the tests of the Python API share: small runs, and the programs in the documents."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from palmette.cli.main import main
from tests.support.data import squad_file
from tests.support.paths import ROOT
from tests.support.scripts import script

PAGE = ROOT / "docs" / "reference" / "python-api.md"
# The program that the README shows.
PROGRAM = """\
import palmette

reader = palmette.load("runs/quickstart")  # a run, a folder, a GGUF file, or a hub id
(answer,) = reader.answer("The ferry leaves at 7:40.", ["When does it leave?"])
print(answer.text, answer.start, answer.probability, answer.certified)
result = palmette.evaluate(reader, palmette.read_data("builtin:test"))
print(result.metrics["exact"], result.intervals["exact"])
run = palmette.train(palmette.read_recipe("recipes/dpo.yaml"))  # any stage
palmette.load(run.folder)
"""


def command(patch: pytest.MonkeyPatch, *words: str | Path) -> None:
    """Run a command of palmette in this process."""
    patch.setattr(sys, "argv", ["palmette", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert not caught.value.code


def write_recipe(path: Path, output: str | Path, **sections: Any) -> Path:
    """Write a recipe of one small epoch."""
    train = {"epochs": 1, "trees_per_step": 2, "row_tokens": 1024, "tokens_per_batch": 1024}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({"output": str(output), "train": train, **sections}))
    return path


def quickstart(tiny_folder: Path, folder: Path) -> Path:
    """A finished run of a tiny model, at runs/quickstart in a folder, which is returned."""
    model = {"name": str(tiny_folder), "dtype": "float32"}
    data = {"train": [str(squad_file(folder / "train.json"))]}
    recipe = write_recipe(folder / "sft.yaml", folder / "runs" / "quickstart", model=model, data=data)
    with pytest.MonkeyPatch.context() as patch:
        command(patch, "train", "sft", recipe)
    return folder


def programs(text: str) -> list[str]:
    """The Python programs in a Markdown page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def readme_program() -> str:
    """The program that the README shows."""
    shown = [one for one in programs((ROOT / "README.md").read_text(encoding="utf-8")) if "palmette.train" in one]
    return shown[0] if shown else PROGRAM


def page_module() -> ModuleType:
    """What writes the page of the Python API."""
    return script("docs/api.py")
