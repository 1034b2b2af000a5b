"""The page of a job, its licences, and the counts of what it took."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from palmette.errors import DataError
from palmette.pages.made_data import LONGEST
from palmette.synth.effort import estimate, spent
from palmette.synth.licences import Licences, say_unknown
from palmette.synth.showing import MOST_SAMPLES, page_of, write_page_of
from palmette.synth.writers import Price, load_writer
from tests.support.command import palmette
from tests.support.data import squad_file


class Words(HTMLParser):
    """The text of a page, and its elements."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_shows_samples_filters_and_costs(tmp_path: Path) -> None:
    record = {
        "writer": {"model": "m", "endpoint": "http://h/v1"},
        "sources": [{"source": "docs/", "sha256": "0123456789abcdef"}],
        "against": [{"source": "eval.json", "sha256": "fedcba9876543210"}],
        "licences": {"writer": None, "sources": {"docs/": "mit"}},
        "settings": {"max_alike": 0.7},
        "before": {"tokens_read": 1000, "most_tokens_written": 64, "most_cost": 0.25},
        "after": {"tokens_read": 900, "tokens_written": 50, "cost": 0.125},
    }
    dropped = {
        "tasks": {
            "alike": {"number": 3, "meaning": "too much like another", "examples": [{"task": "<b>Say it.</b>"}]},
            "too short": {"number": 1204, "meaning": "by ROUGE-L", "examples": []},
        },
        "lists": {},
    }
    kept = [{"user": f"sample {n}.", "assistant": "x" * (LONGEST + 5), "none": None} for n in range(50)]
    out = tmp_path / "made.jsonl"
    write_page_of(out, record, conclusion="50 are kept.", dropped=dropped, kept=kept)
    page = Words(page_of(out).read_text())
    for told in (
        "50 are kept.",
        "m, at http://h/v1",
        "docs/ (sha256 0123456789ab, licence mit)",
        "eval.json (sha256 fedcba987654)",
        "not known",
        "max alike",
        "about 1,000",
        "at most 0.2500",
        "0.1250",
        "too short: 1,204",
        "By ROUGE-L.",
        "<b>Say it.</b>",
        "20 of 50",
        "x" * LONGEST + "…",
    ):
        assert told in page.text, told
    assert page.text.index("too short: 1,204") < page.text.index("alike: 3")
    assert "b" not in page.tags
    assert len(re.findall(r"sample \d+\.", page.text)) == MOST_SAMPLES
    assert "Lists" not in page.text


class Paid:
    """A writer, as far as its costs go."""

    price, most_tokens, licence = Price(1.0, 4.0), 100, None


def test_costs_are_estimated_and_counted() -> None:
    """Ten requests of 400 characters are 1,000 tokens, and at most 1,000 are written: 0.001 and 0.004."""
    found = estimate(((("user", "x" * 400),) for _ in range(10)), Paid())  # type: ignore[arg-type]
    assert found == {
        "requests": 10,
        "tokens_read": 1000,
        "most_tokens_written": 1000,
        "most_cost": pytest.approx(0.005),
    }
    lines = [{"tokens": 500_000, "tokens_read": None}, {"tokens": None, "tokens_read": 250_000}, {"tokens": None}]
    assert spent(lines, Paid()) == {  # type: ignore[arg-type]
        "tokens_read": 250_000,
        "tokens_written": 500_000,
        "cost": pytest.approx(2.25),
    }


def test_licences_that_are_not_known_are_said() -> None:
    told: list[str] = []
    sources = [{"source": "a.txt"}, {"source": "b.txt"}, {"source": "builtin:train"}]
    record = Licences(None, ["mit", "b.txt=cc0-1.0"]).record(sources, "apache-2.0")
    assert record == {
        "writer": "apache-2.0",
        "sources": {"a.txt": "mit", "b.txt": "cc0-1.0", "builtin:train": "apache-2.0"},
    }
    say_unknown(record, told.append)
    assert told == []
    say_unknown(Licences("x", ["b.txt=mit"]).record(sources, None), told.append)
    assert told == ["The licence of a.txt is not known. --source-licence puts it into the report."]
    with pytest.raises(DataError, match=r"'c.txt' is no source of this job"):
        Licences(None, ["c.txt=mit"]).record(sources, None)
    for twice in (["mit", "isc"], ["a.txt=mit", "a.txt=isc"]):
        with pytest.raises(DataError, match="mit and isc are given as the licence of"):
            Licences(None, twice).record(sources, None)


def test_a_local_writer_states_the_licence_of_its_model(tiny_folder: Path, tmp_path: Path) -> None:
    assert load_writer(str(tiny_folder), {}).licence is None
    copy = tmp_path / "model"
    copy.mkdir()
    for file in tiny_folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "README.md").write_text("---\nlicense: mit\n---\nA model.\n")
    assert load_writer(str(copy), {}).licence == "mit"


@pytest.mark.parametrize(
    ("name", "told"), [("quotes", "of 3 questions have a rationale"), ("negatives", "Added as unanswerable")]
)
def test_data_of_labelled_questions_have_pages_too(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "made.jsonl"
    assert palmette(monkeypatch, "synth", name, squad_file(tmp_path / "data.json"), "--out", out) == 0
    assert told in Words(page_of(out).read_text()).text
    assert json.loads(out.with_name(out.name + ".report.json").read_text())["against"] == []
