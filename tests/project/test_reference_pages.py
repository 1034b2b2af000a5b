"""The generated pages of the reference are current, and name every command, option, recipe key, public name and
file.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

import palmette
from palmette.cli.main import app
from palmette.config.recipes import Recipe
from palmette.config.sections import Section
from tests.support.layers import MAY_IMPORT
from tests.support.scripts import script

ROOT = Path(palmette.__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"


recipe_reference = script("docs/recipe_reference.py")


def page(name: str) -> str:
    return (REFERENCE / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "where", "function"),
    [
        ("commands", "generate", "commands"),
        ("http-api", "http_api", "http_api"),
        ("recipes", "recipe_reference", "recipes"),
        ("source-tree", "source_tree", "source_tree"),
    ],
)
def test_the_page_is_current(name: str, where: str, function: str) -> None:
    assert page(name) == getattr(script(f"docs/{where}.py"), function)(), "run `make docs`"


def commands(command: Any, words: str) -> Iterator[tuple[str, Any]]:
    yield words, command
    for name in command.list_commands(None) if hasattr(command, "list_commands") else ():
        yield from commands(command.get_command(None, name), f"{words} {name}")


COMMANDS = {words: found for words, found in commands(typer.main.get_command(app), "palmette") if not found.hidden}


def test_there_are_commands() -> None:
    assert {"palmette", "palmette ask", "palmette train dpo", "palmette synth preferences"} <= COMMANDS.keys()


@pytest.mark.parametrize("words", list(COMMANDS))
def test_every_command_and_option_is_on_its_page(words: str) -> None:
    section = re.search(rf"^## {words}\n(.*?)(?=^## |\Z)", page("commands"), flags=re.MULTILINE | re.DOTALL)
    assert section is not None
    for parameter in (one for one in COMMANDS[words].params if not getattr(one, "hidden", False)):
        named = re.search(
            rf"^\| `([^`]*{parameter.opts[0]}(?![\w-])[^`]*)` \|", section[1], re.MULTILINE | re.IGNORECASE
        )
        assert named, parameter.name
        assert {*parameter.opts, *parameter.secondary_opts} <= {*named[1].split(", "), parameter.name}
    assert (COMMANDS[words].help or "").splitlines()[0] in section[1]


def sections() -> dict[str, type[BaseModel]]:
    """Every closed set of settings in the package, by its full name."""
    for found in pkgutil.walk_packages(palmette.__path__, "palmette."):
        import_module(found.name)

    def below(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
        for one in kind.__subclasses__():
            yield one
            yield from below(one)

    return {f"{one.__module__}.{one.__name__}": one for one in below(Section) if one.__module__.startswith("palmette")}


def held(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield kind
    for field in kind.model_fields.values():
        for one in (field.annotation, *get_args(field.annotation)):
            if isinstance(one, type) and issubclass(one, BaseModel):
                yield from held(one)


def dotted(kind: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in kind.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        inner = next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), None)
        yield from dotted(inner, f"{prefix}{name}.") if inner else [prefix + name]


def test_every_set_of_settings_is_on_the_page_of_recipes() -> None:
    chapters = [chapter.kind for chapter in recipe_reference.CHAPTERS if issubclass(chapter.kind, BaseModel)]
    reached = {one for kind in chapters for one in held(kind)}
    abstract = {"PreferenceRecipe", "RolloutRecipe"}  # what recipes of several stages share
    missing = {name for name, kind in sections().items() if kind not in reached and kind.__name__ not in abstract}
    assert not missing


def test_every_key_is_on_the_page_of_recipes() -> None:
    named = set(re.findall(r"^\| `([\w.]+)` \|", page("recipes"), flags=re.MULTILINE))
    keys = {
        key
        for chapter in recipe_reference.CHAPTERS
        if issubclass(chapter.kind, BaseModel)
        for key in dotted(chapter.kind)
    }
    assert keys <= named
    assert len(keys) > 100
    assert {"before_verdict", "second_turn"} <= named  # of prompt files


@pytest.mark.parametrize(
    "row",
    [
        "| `output` | text | required |",
        "| `train.learning_rate` | number more than 0 | `0.001` | Peak learning rate. |",
        "| `train.warmup` | number at least 0 and less than 1 | `0.1` |",
        '| `train.method` | `"lora"` or `"full"` | `"lora"` |',
        "| `lora.rank_pattern` | map from names to integer at least 1 | `{}` |",
        "| `data.limit_documents` | integer at least 1 or null | `null` |",
        "| `data.train` | list of text, at least 1 | required |",
        "| `dpo.label_smoothing` | number at least 0 and less than 0.5 | `0.0` |",
        '| `rollouts.rewards` | map from names to number at least 0 | `{"exact": 1.0, "valid_json": 0.2}` |',
    ],
)
def test_a_row_says_type_bounds_and_default(row: str) -> None:
    assert re.search(rf"^{re.escape(row)}", page("recipes"), flags=re.MULTILINE)


def test_a_stage_shows_only_what_it_adds_or_changes() -> None:
    of_dpo = page("recipes").partition("## Stage dpo\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([\w.]+)` \|", of_dpo, flags=re.MULTILINE)
    assert {"dpo.beta", "data.train", "data.kind"} <= set(named)
    assert not {"train.epochs", "model.name", "data.on_bad_record", "output"} & set(named)


def test_a_key_whose_docstring_says_nothing_is_an_error() -> None:
    class Silent(Recipe):
        """A recipe.

        Attributes:
            loud: something.
        """

        loud: int = 1
        silent: int = 2

    keys = recipe_reference.keys_of
    with pytest.raises(ValueError, match="docstring of Silent says nothing about 'silent'"):
        keys(recipe_reference.Chapter("", "", Silent, Recipe))
    del Silent.model_fields["silent"]
    assert [(key.name, key.meaning) for key in keys(recipe_reference.Chapter("", "", Silent, Recipe))] == [
        ("loud", "Something.")
    ]


def test_every_public_name_is_on_the_page_of_the_python_api() -> None:
    named = re.findall(r"^### `(\w+)`$", page("python-api"), flags=re.MULTILINE)
    assert sorted(named) == sorted(palmette.__all__)


def test_the_source_tree_has_a_line_for_each_file_and_for_nothing_else() -> None:
    package, named, folders = ROOT / "src" / "palmette", set(), list[str]()
    for line in page("source-tree").partition("<!-- tree -->")[2].splitlines():
        found = re.fullmatch(r" {4}( *)([\w./]+?)(/?)(?: +# (\S.*))?", line)
        if not found or not line.strip():
            continue
        depth = len(found[1]) // 2
        if found[3]:
            folders[depth:] = [found[2]]
        else:
            assert found[4], line
            named.add(Path(*folders[1:depth], found[2]).as_posix())
    present = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if path.name != "__init__.py"}
    assert named == present


def test_the_picture_of_the_imports_is_current_and_shows_every_layer() -> None:
    """Each layer of the table of layers has its box. The lowest row holds those that may import nothing."""
    drawing = script("docs/import_graph.py")
    shown = (ROOT / "docs" / "imports.svg").read_text(encoding="utf-8")
    assert shown == drawing.picture(), "run `make docs`"
    assert sorted(re.findall(r">(\w+)</text>", shown)) == sorted(MAY_IMPORT)
    lowest = drawing.levels(drawing.imports())[0]
    assert set(lowest) == {name for name, allowed in MAY_IMPORT.items() if not allowed}
