"""Imports go one way. The table is the one of docs/architecture.md."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.support.layers import BY_RULE, MAY_IMPORT, MODULES, imported, layer, permission
from tests.support.paths import SOURCE


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path: Path) -> None:
    here = layer(path)
    for name in imported(path, "palmette"):
        inside = name == "__version__" or name.split(".")[0] == here
        assert inside or permission(path, name), f"{here} imports {name}"


def test_every_folder_has_a_rule_and_every_rule_a_folder() -> None:
    assert {layer(path) for path in MODULES} == set(MAY_IMPORT)


def test_every_permission_is_used() -> None:
    """Where the table names what a layer may import; the rows that name what it may not are left out."""
    used = defaultdict(set)
    for path in MODULES:
        used[layer(path)] |= {permission(path, name) for name in imported(path, "palmette")}
    idle = {name: allowed - used[name] for name, allowed in MAY_IMPORT.items() if name not in BY_RULE}
    assert not {name: unused for name, unused in idle.items() if unused}


def test_the_table_has_no_cycle() -> None:
    done: list[str] = []
    while len(done) < len(MAY_IMPORT):
        needs = {name: {one.split(".")[0] for one in allowed} for name, allowed in MAY_IMPORT.items()}
        free = [name for name, needed in needs.items() if name not in done and needed <= set(done)]
        assert free, f"a cycle among {set(MAY_IMPORT) - set(done)}"
        done += free


ASK = ["ask"]

# What a command must not have imported by the time that it is done, by what it takes.
HEAVY = {
    "torch",
    "transformers",
    "peft",
    "datasets",
    "matplotlib",
    "scipy",
    "pandas",
    "pyarrow",
    "sklearn",
    "accelerate",
}
HUB = {"huggingface_hub", "httpx2"}
STORE = {"sqlalchemy", "alembic", "psycopg", "fastapi", "uvicorn"}
LIGHT_COMMANDS: dict[str, tuple[list[str], set[str]]] = {
    "help": (["--help"], HEAVY | HUB | {"numpy", "pydantic", "rich"}),
    "help of a stage": (["train", "sft", "--help"], HEAVY | HUB | {"numpy"}),
    "help of ask": (["ask", "--help"], HEAVY | HUB | {"numpy"}),
    "help of verdicts": (["review", "retrain", "--help"], HEAVY | HUB | STORE | {"numpy"}),
    "verdicts of a mistyped run": (["review", "retrain", "runs/quikstart"], HEAVY | HUB),
    "an option that does not exist": (["ask", "--modle", "x"], HEAVY | HUB | {"numpy"}),
    "prompts": (["prompts"], HEAVY | HUB),
    "a prompt": (["prompts", "list", "json"], HEAVY | HUB),
    "a missing document": ([*ASK, "missing.txt", "When?"], HEAVY | HUB),
    "an empty document": ([*ASK, "empty.txt", "When?"], HEAVY | HUB),
    "an empty question": ([*ASK, "document.txt", ""], HEAVY | HUB),
    "a mistyped run": ([*ASK, "document.txt", "When?", "--model", "runs/quikstart"], HEAVY | HUB),
    "a missing folder": ([*ASK, "document.txt", "When?", "--model", "./missing"], HEAVY | HUB),
    "a folder without a model": ([*ASK, "document.txt", "When?", "--model", "runs"], HEAVY | HUB),
    "a run that is not finished": ([*ASK, "document.txt", "When?", "--model", "runs/begun"], HEAVY | HUB),
    "a missing recipe": (["train", "sft", "missing.yaml"], HEAVY | HUB),
    "a missing run to resume": (["train", "sft", "--resume", "runs/quikstart"], HEAVY | HUB),
    "a missing sweep": (["sweep", "missing.yaml"], HEAVY | HUB),
    "a missing chain": (["chain", "missing.yaml"], HEAVY | HUB),
    "a quickstart where something is": (["quickstart", "--out", "runs"], HEAVY | HUB),
    "a mistyped run to measure": (
        ["eval", "squad", "--data", "builtin:test", "--out", "out", "--model", "runs/quikstart"],
        HEAVY | HUB,
    ),
    "a mistyped run to publish": (["push", "runs/quikstart", "--to", "me/it", "--dry-run", "out"], HEAVY | HUB),
    "predictions of a mistyped run": (["predict", "document.txt", "out", "--model", "runs/quikstart"], HEAVY | HUB),
    "a model that the hub lacks": ([*ASK, "document.txt", "When?", "--model", "someone/model"], HEAVY),
}


@pytest.mark.parametrize("name", LIGHT_COMMANDS)
def test_commands_import_nothing_heavy_before_they_need_it(name: str, tmp_path: Path) -> None:
    words, forbidden = LIGHT_COMMANDS[name]
    (tmp_path / "document.txt").write_text("The ferry leaves at 7:40.")
    (tmp_path / "empty.txt").touch()
    begun = tmp_path / "runs" / "begun"
    begun.mkdir(parents=True)
    (begun / "recipe.yaml").write_text("output: runs/begun")
    (begun / "manifest.json").write_text("{}")
    code = (
        f"import sys; sys.argv = ['palmette', *{words!r}]\n"
        "from palmette.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: code = end.code or 0\n"
        f"print(code, *sorted({forbidden!r} & set(sys.modules)), file=sys.stderr)"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCE.parent), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    fails = not name.startswith(("help", "prompts", "a prompt"))
    assert done.stderr.splitlines()[-1] == ("2" if fails else "0"), done.stderr
    assert "Traceback" not in done.stderr


def test_files_and_functions_stay_readable() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, (path, node.name)
