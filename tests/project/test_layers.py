"""Imports go one way. The table is the one of docs/architecture.md."""

from __future__ import annotations

import ast
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


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from palmette.cli.main import app\n"
        "for words in (['--help'], ['train', 'sft', '--help'], ['ask', '--help']):\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0\n"
        "print(sorted({'torch', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_files_and_functions_stay_readable() -> None:
    for path in MODULES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, (path, node.name)
