"""What verdicts are good for, on the command line: export, import, agreement, and clear words where something lacks."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palmette.cli import packages
from palmette.data.preference_sets import read_comparisons, read_verdicts
from palmette.data.records import Document
from palmette.data.source import read_source
from palmette.review.store import Store
from tests.support.command import palmette
from tests.support.reviewing import TEXT, document, event, shown, verdict

SAID: list[tuple[str, str, str, str | None]] = [
    ("ann", "when", "accept", "7:40"),
    ("bob", "when", "accept", "7:40"),
    ("ann", "where", "edit", "Quay 4"),
    ("bob", "where", "reject", None),
    ("ann", "who", "accept", "7:40"),
    ("bob", "who", "reject", None),
]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Verdicts of two people on three questions, the last of them disputed."""
    path = tmp_path / "review.db"
    with Store.open(path) as opened:
        opened.add_documents([document(), Document("other", "Bees dance.", ())])
        for name, question, kind, text in SAID:
            opened.append([event("shown", name, question, shown=shown())])
            opened.append([event("verdict", name, question, after=5.0, verdict=verdict(kind, text))])
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Runs `palmette review ...` in a folder where a model without a name of a folder has its verdicts."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: palmette(monkeypatch, "review", *words)


MODEL = "somebody/model"


def test_verdicts_are_written_in_each_form(
    command: Callable[..., int], store: Path, tmp_path: Path, capsys: Any
) -> None:
    """The store is found where the page keeps it: review.db, here or in the run."""
    assert command("export", MODEL, "answers.jsonl") == 0
    said = capsys.readouterr().err
    assert "left out: 1 conflict (people disagree, and nobody has decided)" in said
    assert "2 answers in answers.jsonl, from 4 verdicts" in said
    assert command("export", MODEL, "squad.json") == 0
    for name in ("answers.jsonl", "squad.json"):
        (read,) = read_source(str(tmp_path / name)).documents
        assert {one.id: [answer.text for answer in one.answers] for one in read.questions} == {
            "when": ["7:40"],
            "where": ["Quay 4"],
        }
    assert command("export", MODEL, "pairs.jsonl", "--format", "pairs") == 0
    assert [one.id for one in read_comparisons(str(tmp_path / "pairs.jsonl")).records] == ["where"]
    assert command("export", MODEL, "labels.jsonl", "--format", "labels") == 0
    assert len(read_verdicts(str(tmp_path / "labels.jsonl")).records) == 3
    for form in ("label-studio", "doccano", "argilla", "events"):
        assert command("export", MODEL, form, "--format", form, "--store", store) == 0
        other = tmp_path / f"{form}.db"
        assert command("import", MODEL, form, "--format", form, "--store", other) == 0
        with Store.open(other) as opened:
            assert [one.verdict for one in opened.events() if one.kind == "verdict"].count(verdict("reject")) == 2
    assert command("import", MODEL, "squad.json", "--format", "answers", "--store", tmp_path / "squad.db") == 0
    with Store.open(tmp_path / "squad.db") as opened:
        given = {one.question: one.verdict for one in opened.events()}
    assert given == {"when": verdict("edit", "7:40", 0.0), "where": verdict("edit", "Quay 4", 0.0)}
    assert "12 events added" in capsys.readouterr().err
    before = (tmp_path / "answers.jsonl").read_bytes()
    assert command("export", MODEL, "answers.jsonl") == 2
    assert "answers.jsonl exists already" in capsys.readouterr().err
    assert (tmp_path / "answers.jsonl").read_bytes() == before


def test_agreement_is_a_table(command: Callable[..., int], store: Path, capsys: Any) -> None:
    """Of three pairs one agrees on the suggestion and one contradicts. The third says twice that it is wrong: 2 of 3.

    Two of six verdicts are "wrong" by each rule: alpha = 1 - (1/3) / (1 - (3 * 2 + 3 * 2) / (6 * 5)) = 1 - 5/9.
    """
    assert command("agreement", MODEL) == 0
    text = " ".join(re.sub("[│┃]", " ", capsys.readouterr().out).split())
    assert "same verdict, share 0.67" in text
    assert "same verdict, Krippendorff's alpha 0.44" in text
    assert "same verdict, Cohen's kappa of ann and bob 0.40" in text
    assert "3 questions have verdicts of several people, in 3 pairs. 1 questions are disputed" in text
    assert "ann 3" in text


def test_one_person_alone_agrees_with_nobody(command: Callable[..., int], tmp_path: Path, capsys: Any) -> None:
    with Store.open(tmp_path / "review.db") as opened:
        opened.add_documents([document(TEXT, "when")])
        opened.append([event("verdict", verdict=verdict("reject"))])
    assert command("agreement", MODEL) == 0
    assert "No question was judged by two people yet" in capsys.readouterr().out


def test_a_store_without_verdicts_shows_no_empty_table(
    command: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    Store.open(tmp_path / "review.db").close()
    assert command("agreement", MODEL) == 0
    assert capsys.readouterr().out == "There are no verdicts yet. Judge some with palmette review.\n"


def test_what_lacks_is_one_line(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "broken.jsonl").write_text(json.dumps({"event": {"kind": "verdict"}}) + "\n")
    (tmp_path / "latin.jsonl").write_bytes(b"\xe9")
    cases = [
        (("agreement", MODEL), "there are no verdicts: review.db does not exist. Judge some with palmette review"),
        (("export", MODEL, "x.jsonl"), "there are no verdicts: review.db does not exist"),
        (("import", MODEL, "missing.jsonl"), "cannot read missing.jsonl: there is no such file"),
        (("import", MODEL, "latin.jsonl"), "cannot read latin.jsonl: byte 0 is not UTF-8"),
        (("import", MODEL, "broken.jsonl"), "broken.jsonl: line 1 is no event of a review"),
        (("retrain", "runs/missing"), "is not a run folder"),
    ]
    for words, message in cases:
        assert command(*words) == 2
        said = capsys.readouterr().err.strip()
        assert message in " ".join(said.split()), words
        assert "Traceback" not in said
    there = packages.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "sqlalchemy" else there(name))
    assert command("agreement", MODEL) == 2
    assert 'sqlalchemy Install them: pip install "palmette[web]"' in " ".join(
        capsys.readouterr().err.replace(".", "").split()
    )
