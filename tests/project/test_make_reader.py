"""The script that makes the reader, on small data and a small run, and the reader itself."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from palmette import run
from palmette.data.source import read_source
from palmette.errors import DataError
from tests.support import scripts

HERE = Path(__file__).parents[2] / "recipes" / "reader"


@pytest.fixture(scope="module")
def script() -> Any:
    return scripts.script("recipes/reader/make.py")


def article(title: str, number: int) -> dict[str, Any]:
    """Two paragraphs with a question each."""
    paragraphs = []
    for part, year in enumerate((1800 + number, 1900 + number)):
        context = f"The first tower of {title} was built in {year}, of granite {part}."
        question = f"When was the first tower of {title} built?"
        answer = {"text": str(year), "answer_start": context.index(str(year))}
        paragraphs.append(
            {"context": context, "qas": [{"id": f"{title}{part}", "question": question, "answers": [answer]}]}
        )
    return {"title": title, "paragraphs": paragraphs}


def data_file(path: Path, titles: list[str]) -> Path:
    path.write_text(json.dumps({"version": "1.1", "data": [article(title, i) for i, title in enumerate(titles)]}))
    return path


def test_a_file_that_is_missing_or_out_of_reach_is_named(
    tmp_path: Path, script: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both errors name the option that takes a file."""

    def unreachable(_address: str) -> None:
        raise URLError(OSError("no route"))

    with pytest.raises(DataError, match=r"--tydiqa .*away\.json: there is no such file\. Check the path"):
        script.fetch("tydiqa", tmp_path / "away.json", tmp_path)
    monkeypatch.setattr(script.urllib.request, "urlopen", unreachable)
    with pytest.raises(DataError, match=r"new_wiki_v1\.0\.json cannot be fetched: no route\. .* --squadshifts FILE"):
        script.fetch("squadshifts", None, tmp_path)


def test_nothing_measured_is_learned_and_the_calibration_is_apart(tmp_path: Path, script: Any) -> None:
    names = [f"T{number:02d}" for number in range(12)]
    files = {
        "squad_dev": [*script.LEARNED, *script.CALIBRATED, "1973_oil_crisis", "Oxygen"],
        "squad_train": names,
        "squadshifts": ["Harvard_University", "Andes"],
        "tydiqa": ["Harvard University", "Grasshopper", "Hangul"],
    }
    given = {name: data_file(tmp_path / f"{name}.json", titles) for name, titles in files.items()}
    script.prepare(argparse.Namespace(work=tmp_path / "work", **given))
    made = {path.stem: read_source(str(path)) for path in sorted((tmp_path / "work" / "data").glob("*.json"))}
    titles = {name: {document.title for document in source.documents} for name, source in made.items()}
    assert titles["squad-dev"] == set(script.LEARNED)
    assert titles["calibration"] == set(script.CALIBRATED)
    assert titles["squad-train-siblings"] == set(names[: script.NUM_TRAIN_ARTICLES])
    assert (titles["squadshifts-siblings"], titles["tydiqa-siblings"]) == ({"Andes"}, {"Grasshopper", "Hangul"})
    assert any(not q.answers for document in made["squad-train-siblings"].documents for q in document.questions)
    assert all(q.answers for name in ("squad-dev", "calibration") for d in made[name].documents for q in d.questions)


def test_the_packed_run_is_a_run_and_names_no_path(
    tmp_path: Path, script: Any, sft_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = tmp_path / "runs"
    for name in ("reading", "refusing"):
        shutil.copytree(sft_run, runs / name)
    fitted = {"source": str(tmp_path / "data" / "calibration.json"), "sha256": "0" * 64, "decision": {}}
    (runs / "refusing" / "adapter" / "calibration.json").write_text(json.dumps(fitted))
    monkeypatch.setattr(script, "PACKAGED", tmp_path / "package" / "reader")
    (tmp_path / "package").mkdir()
    for _ in range(2):  # the second takes the place of the first
        script.pack(runs / "refusing")
    packed = tmp_path / "package" / "reader"
    assert [path.name for path in packed.parent.iterdir()] == ["reader"]
    texts = [path.read_text() for path in packed.rglob("*") if path.suffix in (".json", ".yaml", ".md")]
    assert len(texts) == 5
    assert not any(str(tmp_path) in text for text in texts)
    manifest, before = (json.loads((folder / "manifest.json").read_text()) for folder in (packed, sft_run))
    assert len(manifest["data"]) == 2
    assert manifest["base"] == before["base"]
    assert run.is_finished(packed)
