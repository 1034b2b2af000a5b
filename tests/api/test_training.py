"""The part of the Python API that trains, the README's program, and the page of the API."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

import palmette
from tests.support import api_client
from tests.support.programs import PAGE, page_module, programs, quickstart, readme_program, write_recipe

PLACES = ("harbour", "tower", "market", "station")


@pytest.fixture
def place(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a run at runs/quickstart, and recipes that build on it."""
    quickstart(tiny_folder, tmp_path)
    monkeypatch.chdir(tmp_path)
    lines = [
        {"id": p, "prompt": f"Where is the {p}?", "chosen": f"Kindly by the {p}.", "rejected": "Go!"} for p in PLACES
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for stage in ("dpo", "reward"):
        data = {"train": ["pairs.jsonl"]}
        write_recipe(
            tmp_path / f"recipes/{stage}.yaml", f"runs/{stage}", stage=stage, start="runs/quickstart", data=data
        )
    return tmp_path


def test_the_program_of_the_readme(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line as it stands there, on two documents."""
    program = readme_program()
    limited = program.replace('read_data("builtin:test")', 'read_data("builtin:test", limit=2)')
    assert limited != program
    names: dict[str, object] = {}
    exec(limited, names)
    assert len(capsys.readouterr().out.splitlines()) == 2
    run = names["run"]
    assert getattr(run, "folder", None) == Path("runs/dpo")
    assert (place / "runs" / "dpo" / "adapter").is_dir()


def test_what_was_trained_is_finished(place: Path) -> None:
    said: list[str] = []
    run = palmette.train(palmette.read_recipe(Path("recipes/reward.yaml")), say=said.append)
    assert said
    scores = palmette.load_reward(run.folder).scores([("Where?", "Kindly by the road."), ("Where?", "Go!")])
    assert len(set(scores)) == 2
    with pytest.raises(palmette.PalmetteError, match="is finished"):
        palmette.resume(run.folder)
    with pytest.raises(palmette.PalmetteError, match="exists already"):
        palmette.train(palmette.read_recipe("recipes/reward.yaml"))
    with pytest.raises(palmette.PalmetteError, match="cannot read the recipe"):
        palmette.read_recipe("recipes/none.yaml")


def test_a_program_of_somebody_else(place: Path) -> None:
    assert api_client.trained(Path("recipes/reward.yaml")) == Path("runs/reward")


def test_the_examples_of_the_page_run(place: Path) -> None:
    palmette.train(palmette.read_recipe("recipes/reward.yaml"))
    names: dict[str, object] = {}
    shown = programs(PAGE.read_text(encoding="utf-8"))
    assert any("palmette.train(" in program for program in shown)
    for program in shown:
        exec(program, names)


@pytest.mark.parametrize("name", ["read_recipe", "resume", "train"])
def test_every_name_says_what_it_takes_and_raises(name: str) -> None:
    value = page_module().defined(name)
    text = inspect.getdoc(value) or ""
    assert "Raises:" in text
    for parameter in inspect.signature(value).parameters:
        assert f"\n    {parameter}: " in text, parameter


def test_a_call_of_the_package_takes_what_the_function_takes() -> None:
    assert next(iter(inspect.signature(palmette.train).parameters)) == "recipe"


def test_the_page_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page_module().python_api(), "run `make docs`"
