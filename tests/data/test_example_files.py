"""The example files: each is what README.txt among them says, and each recipe is read by its command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from palmette.data.check import check_data
from palmette.data.example_files import example_names, example_text, write_examples
from palmette.errors import DataError
from palmette.studies.chain.recipe import Chain, load_chain
from palmette.studies.sweep.recipe import load_sweep
from palmette.train.stages import STAGES, read_recipe

RECIPES = [name for name in example_names() if name.endswith(".yaml")]
HOLDS = {
    "questions.jsonl": "questions about documents",
    "contract.json": "questions about documents",
    "chat.jsonl": "conversations",
    "preferences.jsonl": "preferences",
    "verdicts.jsonl": "verdicts on completions",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_examples(Path("some/examples"))
    return tmp_path / "some" / "examples"


def test_every_file_is_data_a_recipe_or_text() -> None:
    assert set(example_names()) == {*HOLDS, *RECIPES, "README.txt", "contract.txt"}
    assert {*STAGES, "chat", "sweep", "chain"} == {name.removesuffix(".yaml") for name in RECIPES}


@pytest.mark.parametrize("name", HOLDS)
def test_the_data_are_what_they_should_be_and_in_order(name: str, folder: Path) -> None:
    report = check_data(str(folder / name))
    assert (report.holds, report.problems) == (HOLDS[name], ())


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_its_command_and_files_that_exist(name: str, folder: Path) -> None:
    text = (folder / name).read_text()
    command = re.match(rf"# .*: palmette ([a-z ]+) some/examples/{name}\n", text)
    assert command is not None
    named = set(re.findall(r"some/examples/[\w.]+", text))
    assert named
    assert all((folder / Path(path).name).is_file() for path in named)
    if command[1] == "sweep":
        assert len(load_sweep(folder / name)[1]) == 2
    elif command[1] == "chain":
        Chain.model_validate(yaml.safe_load(text))
        load_chain(folder / name)
    else:
        stage = command[1].removeprefix("train ")
        recipe = read_recipe(folder / name, stage)
        kinds = {"questions.jsonl": "questions", "chat.jsonl": "conversations", "contract.txt": "texts"}
        given = kinds.get(Path(recipe.data.train[0]).name, Path(recipe.data.train[0]).stem)
        assert given in STAGES[stage].data_kinds
        assert (recipe.data.kind == "chat") == (given == "conversations")


def test_the_readme_names_every_file_of_data_and_commands_that_exist(folder: Path) -> None:
    text = (folder / "README.txt").read_text()
    assert {name for name in (*HOLDS, "contract.txt") if re.search(rf"^{re.escape(name)} ", text, re.MULTILINE)} == {
        *HOLDS,
        "contract.txt",
    }
    for named in set(re.findall(r"some/examples/([\w.]+)", text)):
        assert (folder / named).is_file()


def test_files_that_are_there_are_not_replaced(folder: Path) -> None:
    (folder / "README.txt").write_text("mine")
    with pytest.raises(DataError, match=r"holds 'README.txt' already, and \d+ more"):
        write_examples(folder)
    assert (folder / "README.txt").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write the examples to"):
        write_examples(tmp_path / "file" / "examples")


def test_the_examples_are_small() -> None:
    assert sum(len(example_text(name).encode()) for name in example_names()) < 40_000
