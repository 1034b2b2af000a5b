"""Imports go one way. The table is the one of docs/architecture.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.layers import MAY_IMPORT
from tests.support.paths import ROOT, SOURCE

FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def layer(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_one_way(path: Path) -> None:
    here = layer(path.relative_to(SOURCE).parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            module = node.module or ""
            names = [f"{module}.{alias.name}" if module == "palmette" else module for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            parts = tuple(name.split("."))
            if parts[0] != "palmette" or len(parts) == 1 or name == "palmette.__version__":
                continue
            assert parts[1] == here or parts[1] in MAY_IMPORT[here], f"{here} imports {name}"


def test_every_folder_has_a_rule_and_every_rule_a_folder() -> None:
    assert {layer(path.relative_to(SOURCE).parts) for path in FILES} == set(MAY_IMPORT)


def test_the_table_has_no_cycle() -> None:
    done: list[str] = []
    while len(done) < len(MAY_IMPORT):
        free = [name for name, needs in MAY_IMPORT.items() if name not in done and needs <= set(done)]
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
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or 0) - node.lineno < 60, (path, node.name)


def test_the_source_tree_names_every_file_of_the_package() -> None:
    """The folder tree of the documentation has one line for each module, and for nothing else."""
    page = (ROOT / "docs" / "reference" / "source-tree.md").read_text(encoding="utf-8")
    block = page.split("<!-- tree -->")[1]
    named, folder = set(), ""
    for line in block.splitlines():
        found = re.match(r"( *)([\w.]+(?:/$|\.py +# \S))", line)
        if not found:
            continue
        indent, name = len(found[1]), found[2].split()[0]
        if name.endswith("/"):
            folder = name if indent == 6 else ""
        elif name.endswith(".py"):
            named.add(f"{folder}{name}" if indent == 8 else name)
    present = {str(path.relative_to(SOURCE)) for path in FILES if path.name != "__init__.py"}
    assert named == present
