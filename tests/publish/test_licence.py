"""Under which licence a run is published: that of its base, or the reader's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from palmette.inference.licence import base_licence, trained_licence
from palmette.inference.reader import reader_folder
from palmette.publish.folder import describe_publication, read_finished_run
from tests.support.command import BASE


def test_the_base_says_its_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert base_licence("HuggingFaceTB/SmolLM2-135M-Instruct") == "apache-2.0"
    (tmp_path / "config.json").write_text("{}")
    assert base_licence(str(tmp_path)) is None
    (tmp_path / "config.json").write_text('{"license": "mit"}')
    assert base_licence(str(tmp_path)) == "mit"
    (tmp_path / "README.md").write_text("---\nlicense: llama3\n---\nA model.\n")
    assert base_licence(str(tmp_path)) == "llama3"
    for head in ("license: other", 'license: "mit', "license: [mit"):  # the last two are no YAML
        (tmp_path / "README.md").write_text(f"---\n{head}\n---\nA model.\n")
        assert base_licence(str(tmp_path)) is None

    def no_network(name: str) -> None:
        raise ConnectionError(name)

    monkeypatch.setattr("palmette.inference.licence.ModelCard.load", no_network)
    assert base_licence("somebody/model") is None


def test_what_began_from_the_reader_has_its_licence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of a base, one that began from the reader, one that began from that one, and two that name each other."""
    starts = {"base": None, "first": "reader", "second": "first", "lost": "gone", "round": "again", "again": "round"}
    monkeypatch.chdir(tmp_path)
    for name, start in starts.items():
        Path(name).mkdir()
        Path(name, "manifest.json").write_text(json.dumps({"start": {"run": start}} if start else {}))
    reader = reader_folder()
    assert reader is not None
    assert trained_licence(reader) == "cc-by-sa-4.0"
    assert "CC BY-SA 4.0" in (reader / "DATA.md").read_text(encoding="utf-8")
    found = {name: trained_licence(Path(name)) for name in starts}
    assert {name for name, licence in found.items() if licence} == {"first", "second"}


def test_a_run_that_began_from_the_reader_is_published_under_its_licence(trained: Path, tmp_path: Path) -> None:
    begun = Path(shutil.copytree(trained, tmp_path / "run"))
    manifest = json.loads((begun / "manifest.json").read_text())
    (begun / "manifest.json").write_text(json.dumps({**manifest, "start": {"run": "reader"}}))
    finished = read_finished_run(begun, merged=False, base_model=BASE)
    assert describe_publication(finished, "a/b", [], None, ["mit"]).licence == "cc-by-sa-4.0"
    assert describe_publication(finished, "a/b", [], "mit", ["mit"]).licence == "mit"
