"""Paths and YAML as people write them, and seeds derived from a run's seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from palmette.data.source import read_source
from palmette.errors import PalmetteError
from palmette.files import expand, format_yaml, parse_yaml
from palmette.seeds import derive_seed
from palmette.tasks.qa_prompt import load_prompt
from tests.support.data import squad_file


def test_a_tilde_is_the_home_folder_and_nothing_else_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    assert expand("~/runs/a") == expand(Path("~/runs/a")) == Path("/home/anna/runs/a")
    assert [str(expand(name)) for name in ("runs/~a", "builtin:train", "org/data:train")] == [
        "runs/~a",
        "builtin:train",
        "org/data:train",
    ]
    with pytest.raises(PalmetteError, match=r"'~nobody-here/x' names no home folder.*Write the whole path"):
        expand("~nobody-here/x")


def test_data_and_prompts_are_found_under_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    squad_file(tmp_path / "d.json")
    assert read_source("~/d.json").num_questions == 3
    (tmp_path / "p.yaml").write_text(
        'system: S\nbefore_document: ""\nbefore_question: ""\nafter_question: ""\n'
        """before_answer: '{"answer": "'\nafter_answer: '"}'\n"""
    )
    assert load_prompt("~/p.yaml").system == "S"


def test_yaml_keeps_every_key_and_reads_floats_without_a_point() -> None:
    assert parse_yaml("a: 1e-4\nb: 2E+3\nc: e4") == {"a": 0.0001, "b": 2000.0, "c": "e4"}
    with pytest.raises(ValueError, match=r"the key 'a' stands twice(.|\n)*line 3"):
        parse_yaml("a: 1\nb: 2\na: 3")
    with pytest.raises(ValueError, match="twice"):
        parse_yaml("x:\n- {k: 1, k: 1}")
    with pytest.raises(ValueError, match="depth"):
        parse_yaml("[" * 10_000)
    values = {"z": [1, {"y": "é"}], "a": None}
    assert format_yaml(values) == "z:\n- 1\n- y: é\na: null\n"


def test_derived_seeds_are_those_of_published_runs() -> None:
    """Worked out by hand; every figure in docs/results.md rests on them."""
    assert [derive_seed(0, 0), derive_seed(0, 7), derive_seed(1, 0), derive_seed(42, 3)] == [
        0,
        7,
        1_000_003,
        42_000_129,
    ]
