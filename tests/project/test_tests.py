"""The layout of the tests: folders as in the source, nothing shared but through tests/support and fixtures."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.layers import MAY_IMPORT, imported
from tests.support.paths import ROOT

TESTS = ROOT / "tests"
FILES = sorted(TESTS.rglob("*.py"))
# Folders that are no layers of the package: laws that hold throughout, the project's own files, and its programs.
OTHERS = {"api", "laws", "project", "support", "benchmarks", "experiments"}


def name_of(path: Path) -> str:
    return path.relative_to(TESTS).as_posix()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_test_module_is_imported(path: Path) -> None:
    """Neither by an import nor by the text of a program that a test runs."""
    text = path.read_text(encoding="utf-8")
    named = {*imported(path, "tests"), *re.findall(r"(?:from|import) tests\.(\w[\w.]*)", text)}
    assert not [name for name in named if name.split(".")[0] != "support"]


def test_conftest_files_hold_fixtures_and_hooks_alone() -> None:
    for path in TESTS.rglob("conftest.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                fixture = any("fixture" in ast.unparse(one) for one in node.decorator_list)
                assert fixture or node.name.startswith("pytest_"), f"{path}: {node.name}"
            assert not isinstance(node, ast.ClassDef), f"{path}: {node.name}"


def test_support_holds_no_tests() -> None:
    for path in (TESTS / "support").glob("*.py"):
        names = [getattr(node, "name", "") for node in ast.parse(path.read_text(encoding="utf-8")).body]
        assert not [name for name in names if name.startswith("test_")], path


def test_folders_mirror_the_source() -> None:
    folders = {path.relative_to(TESTS).parts[0] for path in FILES if path.parent != TESTS}
    assert folders <= {*MAY_IMPORT, *OTHERS}
    # A module by itself is tested beside the folders.
    assert {path.stem.removeprefix("test_") for path in TESTS.glob("test_*.py")} <= set(MAY_IMPORT)
    for path in FILES:
        assert path.parent == TESTS or (path.parent / "__init__.py").is_file(), f"{path.parent} is no package"
        assert not path.stem.startswith(f"test_{path.parent.name}_"), f"{path} repeats its folder's name"


def test_files_stay_readable() -> None:
    """As in the source: about a topic a file."""
    long = {name_of(path): path.read_text(encoding="utf-8").count("\n") for path in FILES}
    assert not {name: lines for name, lines in long.items() if lines > 400}
