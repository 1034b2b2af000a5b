"""The documents are true: generated parts are current, examples parse, and links lead somewhere."""

from __future__ import annotations

import ast
import dataclasses
import itertools
import json
import re
import shlex
import tomllib
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import pytest
import typer
import yaml

from benchmarks.page_commands import steps
from palmette.cli.main import app
from palmette.decode.posterior import Decision
from palmette.decode.prediction import Candidate, Prediction
from palmette.evaluate.divergence.result import ScoredCompletion
from palmette.evaluate.reward_metrics import RewardMetrics
from palmette.inference.calibration import Calibration, Guarantee
from palmette.studies.chain.recipe import load_chain
from palmette.studies.sweep.recipe import load_sweep
from palmette.train.stages import STAGES, read_recipe
from tests.support.layers import MAY_IMPORT
from tests.support.paths import ROOT
from tests.support.scripts import script

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])

# Records, which keep their wording, and pages that are made from code.
KEPT = {"CHANGELOG.md", "docs/log.md"}
GENERATED = {f"docs/reference/{name}.md" for name in ("commands", "recipes", "python-api", "source-tree")}


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


WRITTEN = [page for page in PAGES if _name(page) not in KEPT | GENERATED]
# What add-a-stage.md shows holds once its stage is added: tests/train/test_add_a_stage.py runs it.
GUIDES = [
    page
    for page in PAGES
    if _name(page) == "README.md" or (page.parent.name in ("tutorial", "how-to") and page.name != "add-a-stage.md")
]


def test_every_dependency_has_a_reason() -> None:
    """Each package that an installation brings is named in the first column of the page, and nothing twice."""
    with (ROOT / "pyproject.toml").open("rb") as stream:
        project = tomllib.load(stream)["project"]
    wanted = [*project["dependencies"], *itertools.chain.from_iterable(project["optional-dependencies"].values())]
    page = (DOCS / "explanation" / "dependencies.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (.+?) \|", page, flags=re.MULTILINE)
    named = {name for cell in cells for name in re.findall(r"[\w.-]+", cell)}
    assert {re.split(r"[<>=\[]", one)[0] for one in wanted} <= named
    ours = [cell for cell in cells if "`" in cell]
    assert len(set(ours)) == len(ours)


def _lines_of_prose(page: Path) -> list[str]:
    """The lines of a page without code blocks, tables, and what programs write into it."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"^<!-- table: .*?^<!-- end -->", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for line in text.splitlines() if not line.startswith(("|", "    "))]


def _without_code(lines: Iterable[str]) -> str:
    """Prose without the code within its lines."""
    return re.sub(r"`[^`\n]*`", "x", "\n".join(lines))


def _slugs(text: str) -> set[str]:
    """The names of a page's headings, as code hosts and the site make them."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _blocks(page: Path) -> list[str]:
    """The code blocks of a page, indented by four blanks or fenced, without their indentation."""
    text = page.read_text(encoding="utf-8")
    fenced = re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"(?:^ {4}.*\n)+", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.M)
    return [*fenced, *(re.sub(r"^ {4}", "", block, flags=re.MULTILINE) for block in indented)]


def _command_lines(page: Path) -> list[list[str]]:
    """The words of every call of palmette in the code blocks of a page, after the program's name."""
    found = []
    for block in _blocks(page):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if called := re.search(r"(?:^|\| |=\S* )palmette (.+)$", line):
                found.append(shlex.split(called[1].partition(" > ")[0], comments=True))
    return found


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return script("docs/generate.py")


def test_the_command_reference_is_current(generate: ModuleType) -> None:
    assert (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8") == generate.commands(), (
        "run `make docs`"
    )


def test_the_picture_of_the_tree_is_current(generate: ModuleType) -> None:
    assert (ROOT / "docs" / "tree.svg").read_bytes() == generate.picture(), "run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    """Files exist, and so do the headings that are named after a #."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    text = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, heading = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        if heading:
            assert heading in _slugs(file.read_text(encoding="utf-8")), target


def test_every_page_is_on_an_index_page() -> None:
    """Else neither the site's navigation nor a reader on a code host finds it."""
    linked = {
        (index.parent / target).resolve()
        for index in (DOCS / "index.md", DOCS / "results.md", DOCS / "reference" / "index.md")
        for target in re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", index.read_text(encoding="utf-8"), flags=re.MULTILINE)
    }
    assert {page.resolve() for page in DOCS.rglob("*.md")} == linked | {(DOCS / "index.md").resolve()}


@pytest.mark.parametrize("sweep", sorted((ROOT / "experiments").glob("*.yaml")), ids=lambda path: path.name)
def test_sweeps_are_valid(sweep: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert len(load_sweep(sweep)[1]) > 1


@pytest.mark.parametrize("chain", [ROOT / "recipes" / "rlhf.yaml", *(ROOT / "experiments").glob("*/chain.yaml")])
def test_chains_are_valid(chain: Path) -> None:
    """All of their stages' recipes too, and every stage is built on, or makes a policy."""
    _, stages = load_chain(chain)
    built_on = {name for stage in stages for name in stage.needs}
    assert {stage.kind for stage in stages} >= {"dpo", "ppo", "grpo"}
    measured_with = {"held-out"}  # what reward models are measured on
    assert {stage.name for stage in stages if not stage.makes_policy} <= built_on | measured_with


RECIPES = sorted(set((ROOT / "recipes").glob("*.yaml")) - {ROOT / "recipes" / "rlhf.yaml"})


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.name)
def test_recipes_are_valid(recipe: Path) -> None:
    values = yaml.safe_load(recipe.read_text())
    assert read_recipe(recipe).stage == values["stage"]
    assert values["output"].startswith("runs/")


def _permitted(rule: str, above: list[str], everything: list[str]) -> set[str]:
    """What a cell of the layer table says: a list of layers, or a rule with exceptions."""
    kind, _, exceptions = rule.partition(" but ")
    known = {"nothing": [], "all above": above, "everything": everything}
    return {*known.get(kind, kind.split(", "))} - {*filter(None, exceptions.split(", "))}


def test_the_layer_table_of_the_architecture_is_the_tested_one() -> None:
    """Row by row.

    "All above" are the layers of earlier rows; what a row excepts must have been permitted by its rule.
    """
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([\w, ]+) \| [^|]+ \| ([\w, .]+) \|$", text, flags=re.MULTILINE)
    names = [names.split(", ") for names, _ in rows]
    everything = list(itertools.chain.from_iterable(names))
    assert everything == list(MAY_IMPORT)
    for index, (group, (_, rule)) in enumerate(zip(names, rows, strict=True)):
        above = list(itertools.chain.from_iterable(names[:index]))
        assert {*rule.partition(" but ")[2].split(", ")} <= {"", *everything}
        for name in group:
            assert _permitted(rule, above, everything) - {name} == MAY_IMPORT[name], name


def test_the_files_of_the_table_of_laws_exist() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = re.findall(r"\btests/[\w/.]*\w/?", text)
    assert len(named) > 10
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_commands_in_the_documents_exist(page: Path, generate: ModuleType) -> None:
    known = set(re.findall(r"^## palmette (.+)$", generate.commands(), flags=re.MULTILINE))
    for words in re.findall(
        r"^ {4}(?:.*\| )?palmette ([a-z]+(?:-[a-z]+)*(?: [a-z]+)*)",
        page.read_text(encoding="utf-8"),
        flags=re.MULTILINE,
    ):
        assert any(words == name or words.startswith(name + " ") for name in known), words


@pytest.mark.parametrize("page", GUIDES, ids=_name)
def test_command_lines_are_what_the_commands_take(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every word of a call is a command, an option that exists, or an argument that has a place; nothing required is
    missing. The files of the examples are not there.
    """
    monkeypatch.setattr("palmette.data.source.check_source", lambda _source: None)
    for words in _command_lines(page):
        command, rest = typer.main.get_command(app), list(words)
        while hasattr(command, "get_command"):
            assert rest, f"palmette {shlex.join(words)}"
            name = rest.pop(0)
            if name in {option for parameter in command.params for option in parameter.opts}:
                if not rest:  # an option that does something by itself
                    break
                continue
            found = command.get_command(command.context_class(command), name)
            assert found is not None, f"palmette {shlex.join(words)}"
            command = found
            if getattr(command, "invoke_without_command", False) and (not rest or rest[0].startswith("-")):
                break  # a group that does something by itself, and is called like a command
        if hasattr(command, "get_command") and not getattr(command, "invoke_without_command", False):
            continue
        try:
            command.make_context(name, rest)  # parses and checks, and calls nothing
        except typer.exceptions.TyperException as error:
            pytest.fail(f"palmette {shlex.join(words)}: {error}")


def test_the_guides_call_commands() -> None:
    """Else the test above would look at nothing."""
    assert sum(len(_command_lines(page)) for page in GUIDES) > 30


@pytest.mark.parametrize("page", [page for page in WRITTEN if page in GUIDES], ids=_name)
def test_recipes_and_records_in_the_guides_are_valid(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole recipes are read as the commands read them; records are JSON."""
    monkeypatch.chdir(ROOT)
    for block in _blocks(page):
        if block.startswith("{"):
            decoder, text = json.JSONDecoder(), block.strip()
            while text:
                _, end = decoder.raw_decode(text)
                text = text[end:].lstrip()
        if re.match(r"(?:stage: \w+\n)?output: ", block):
            recipe = tmp_path / "recipe.yaml"
            recipe.write_text(block, encoding="utf-8")
            settings = yaml.safe_load(block)
            if "stages" in settings:
                load_chain(recipe)
            elif "vary" in settings or "cells" in settings:
                load_sweep(recipe)
            else:
                kind = settings.get("stage") or next((name for name in STAGES if name in settings), "sft")
                read_recipe(recipe, kind)


WHOLE_PATH = DOCS / "tutorial" / "the-whole-path.md"


def _saved(page: Path) -> dict[str, str]:
    """The blocks that a page says to save, by the names of their files."""
    return {step.file: step.text for step in steps(page.read_text(encoding="utf-8")) if step.file}


def test_whatever_the_whole_path_takes_was_saved_or_made_before(tmp_path: Path) -> None:
    """A stranger can go it from an empty folder: files and runs that a command or a recipe names are there by then, and
    a recipe is read as the stage that the command trains.
    """
    made, trained = dict(_saved(WHOLE_PATH)), 0

    def check(path: str) -> None:
        if re.search(r"^runs/|^arena$|\.(jsonl?|yaml|txt)$", path) and not path.startswith("examples/"):
            assert path in made, path

    for words in _command_lines(WHOLE_PATH):
        before = list(itertools.pairwise(words))
        for option, word in before:
            if option != "--out":
                check(word.rpartition("=")[2])
        if words[0] == "train":
            recipe = tmp_path / words[2]
            recipe.write_text(made[words[2]], encoding="utf-8")
            settings = read_recipe(recipe, words[1]).model_dump()
            named = [*settings["data"]["train"], settings["model"]["name"], settings["start"] or ""]
            for path in (*named, settings.get("rollouts", {}).get("reward_model") or ""):
                check(path)
            made[settings["output"]] = ""
            trained += 1
        made |= {word: "" for option, word in before if option == "--out"}
    assert trained > 4


@pytest.mark.parametrize("page", WRITTEN, ids=_name)
def test_lines_are_no_longer_than_100_characters(page: Path) -> None:
    """Tables and code aside, and lines that a link alone makes long."""
    for line in _lines_of_prose(page):
        assert len(line) <= 100 or len(re.sub(r"\]\([^)]*\)", "]", line)) <= 100, line


def test_sentences_are_short_ones() -> None:
    """At most one semicolon in a hundred sentences of prose; two semicolons mean three sentences."""
    prose = "\n".join(_without_code(_lines_of_prose(page)) for page in WRITTEN)
    sentences = len(re.findall(r"[.!?:](?=\s|$)", prose))
    assert sentences > 500
    assert prose.count(";") <= sentences / 100


MESSAGES = re.findall(
    r"^\| `([^`]+)` \|", (DOCS / "how-to" / "troubleshooting.md").read_text(encoding="utf-8"), flags=re.MULTILINE
)


@pytest.fixture(scope="module")
def texts_of_the_code() -> list[str]:
    """Every text in the package, with a 0 byte where a value goes."""

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        if isinstance(node, ast.JoinedStr):
            return "".join(text(value) for value in node.values)
        return "\0"

    nodes = (n for path in (ROOT / "src").rglob("*.py") for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    return [" ".join(text(node).split()) for node in nodes if isinstance(node, ast.Constant | ast.JoinedStr)]


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_of_the_troubleshooting_page_exist(message: str, texts_of_the_code: list[str]) -> None:
    pattern = re.compile(".*".join(re.escape(part.strip()) for part in message.split("...")))
    assert any(pattern.search(text) for text in texts_of_the_code)


def test_the_troubleshooting_page_names_every_error() -> None:
    page = (DOCS / "how-to" / "troubleshooting.md").read_text(encoding="utf-8")
    named = re.findall(
        r"^class (\w+)\((?:\w*Error|Exception)\)", (ROOT / "src/palmette/errors.py").read_text(), re.MULTILINE
    )
    assert "DataError" in named
    for name in named:
        assert name in page, name


def test_the_page_of_file_formats_names_every_field() -> None:
    page = (DOCS / "reference" / "file-formats.md").read_text(encoding="utf-8")
    for kind in (Prediction, Candidate, Calibration, Guarantee, Decision, ScoredCompletion, RewardMetrics):
        for field in dataclasses.fields(kind):
            assert f"`{field.name}`" in page, f"{kind.__name__}.{field.name}"


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<script src="_static/a.js"></script><img src="a.svg"><a href="https://example.org">a link to follow</a>', []),
        ('<link rel="stylesheet" href="https://cdn.example/a.css">', ["https://cdn.example/a.css"]),
        ('<link rel="preconnect" href="//fonts.example">', ["//fonts.example"]),
        ('<img srcset="a.png 1x, https://i.example/b.png 2x">', ["https://i.example/b.png"]),
    ],
)
def test_what_a_page_would_load_from_another_host(html: str, found: list[str]) -> None:
    assert script("docs/conf.py").foreign_requests(html) == found


def test_what_a_style_sheet_would_load_from_another_host() -> None:
    css = "a{background:url(a.png)} @import 'https://s.example/a.css'; b{src:url(\"//f.example/f.woff\")}"
    assert script("docs/conf.py").foreign_styles(css) == ["https://s.example/a.css", "//f.example/f.woff"]
