"""Evaluation sets: by their content and not by their names, sources that are one, and data that hold a part of one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from palmette.corpus.sources import open_source
from palmette.data.source import read_source
from palmette.errors import DataError
from palmette.synth.leaks import check_sources, clear_data, identities, leak_check
from palmette.synth.passages import read_passages
from tests.support.command import palmette

HARBOUR = (
    "The harbour of Whitby has two piers, and the harbour bridge between them opens twice an hour for the boats of the "
    "town. On the east pier stands the lighthouse, which the harbour office keeps."
)
MILL = (
    "The mill grinds oats for the town, and the miller of the mill sells them on the market each week. The mill stands "
    "by the river, where the old bridge was, and it has two wheels of oak."
)


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "harbour.txt").write_text(HARBOUR)
    (tmp_path / "docs" / "mill.txt").write_text(MILL)
    return tmp_path


def squad(path: Path, *texts: str) -> str:
    """A file of one question about each text, which nobody can answer."""
    paragraphs = [
        {"context": text, "qas": [{"id": f"q{n}", "question": "What is it?", "answers": [], "is_impossible": True}]}
        for n, text in enumerate(texts)
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}))
    return str(path)


def test_a_set_is_known_by_its_content(docs: Path) -> None:
    one = squad(docs / "eval.json", HARBOUR)
    (docs / "copy.json").write_bytes(Path(one).read_bytes())
    assert identities([one]) == identities([str(docs / "copy.json")])
    assert identities([one]) != identities([squad(docs / "eval2.json", MILL)])
    assert "source" not in identities([one])[0]
    with pytest.raises(DataError, match=r"copy.json is the evaluation set .*eval.json"):
        check_sources([open_source("builtin:train"), open_source(str(docs / "copy.json"))], [one])
    assert check_sources([open_source("builtin:train")], [one]) == identities([one])
    assert check_sources([open_source(one)], []) == []


def test_files_are_hashed_once(docs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documents and the evaluation set, which is one of texts, are two files each."""
    (docs / "eval").mkdir()
    for name, text in (("a.txt", f"{HARBOUR} Its ferry leaves each morning."), ("b.txt", MILL[::-1])):
        (docs / "eval" / name).write_text(text)
    hashed: list[str] = []
    real = hashlib.file_digest

    def noted(file: Any, name: str) -> Any:
        hashed.append(file.name)
        return real(file, name)

    monkeypatch.setattr(hashlib, "file_digest", noted)
    found = read_passages([str(docs / "docs")], most_words=50, against=[str(docs / "eval")])
    assert sorted(hashed) == sorted(map(str, docs.glob("*/*.txt")))
    assert len(hashed) == 4
    assert found.num_dropped["document: in an evaluation set"] == 1


def test_eight_words_in_a_row_leak(docs: Path) -> None:
    leaks = leak_check([squad(docs / "eval.json", "one two three four five six seven eight nine")])
    assert leaks("zero one two three four five six seven eight")
    assert not leaks("zero one two three four five six seven nine eight")
    assert not leak_check([])("anything at all")


def test_documents_with_a_part_of_an_evaluation_set_are_left_out_and_counted(docs: Path) -> None:
    """Thirteen words in a row of the harbour stand in the evaluation set, and none of the mill."""
    data = read_source(squad(docs / "data.json", HARBOUR, MILL))
    part = " ".join(HARBOUR.split()[3:16])
    found = clear_data(data, [squad(docs / "eval.json", f"Here {part} there.")])
    assert [document.text for document in found.data.documents] == [MILL]
    assert found.dropped["in an evaluation set"]["number"] == 1
    assert found.against[0]["source"].endswith("eval.json")
    assert found.hashes == identities([str(docs / "eval.json")])
    assert clear_data(data, []).data is data
    with pytest.raises(DataError, match="every document of"):
        clear_data(read_source(squad(docs / "part.json", HARBOUR)), [str(docs / "eval.json")])


def test_a_moved_evaluation_set_is_the_same_and_a_changed_one_is_not(
    docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job is stopped by a server that is not there, so its work file stays."""

    def run(name: str) -> str:
        words = ("synth", "from-text", docs / "docs", "--endpoint", "http://localhost:1/v1", "--model-name", "m")
        assert palmette(monkeypatch, *words, "--out", docs / "o.jsonl", "--against", docs / name) == 2
        return capsys.readouterr().err

    squad(docs / "eval.json", "Nothing of these eight words stands in there at all.")
    assert "cannot reach" in run("eval.json")
    (docs / "eval.json").rename(docs / "moved.json")
    assert "cannot reach" in run("moved.json")
    squad(docs / "moved.json", "Nothing of these nine words stands in there at all.")
    assert "was begun with reading.against" in run("moved.json")


def test_a_source_that_is_an_evaluation_set_is_refused_by_every_command(
    docs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = squad(docs / "data.json", HARBOUR, MILL)
    server: tuple[Any, ...] = ("--endpoint", "http://localhost:1/v1", "--model-name", "m")
    commands: list[tuple[Any, ...]] = [
        ("cloze", docs / "docs" / "mill.txt"),
        ("questions", docs / "docs" / "mill.txt", *server),
        ("from-text", docs / "docs" / "mill.txt", *server),
        ("rationales", data, *server),
        ("quotes", data),
        ("negatives", data),
        ("preferences", data, "--model", "reader"),
    ]
    for name, source, *words in commands:
        against = ("--against", source, "--out", docs / "o.jsonl")
        assert palmette(monkeypatch, "synth", name, source, *words, *against) == 2, name
        assert f"{source} is the evaluation set {source}" in capsys.readouterr().err, name
        assert not (docs / "o.jsonl").exists()
