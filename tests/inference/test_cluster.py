"""A file answered on a Ray cluster of this machine: the same output as alone, also if a worker is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from palmette.errors import ModelError, RunError
from palmette.inference.answerer import load_answerer
from palmette.inference.cluster import LOCAL, OWN, Reading, Worker, predict_on_cluster
from palmette.inference.job import predict_file
from tests.support.command import palmette

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the extra cluster is not installed")


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Questions about 400 documents, which are three chunks and a bit, with a bad row."""
    path = tmp_path_factory.mktemp("questions") / "in.jsonl"
    rows: list[dict[str, Any]] = [
        {"context": f"The ferry leaves at {n % 24}:40 from pier {n}.", "question": "When does the ferry leave?"}
        for n in range(400)
    ]
    rows[150] = {"context": "", "question": "Where?"}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def alone(sft_run: Path, questions: Path) -> bytes:
    out = questions.with_name("alone.jsonl")
    predict_file(load_answerer(str(sft_run)), str(questions), out)
    return out.read_bytes()


def test_the_output_is_that_of_one_process_in_order(
    sft_run: Path, questions: Path, alone: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that was begun alone, and cut in its second chunk, is continued on the cluster by the command."""
    out = tmp_path / "out.jsonl"
    predict_file(load_answerer(str(sft_run)), str(questions), out)
    out.write_bytes(alone[: len(alone) // 2])
    words = ["predict", questions, out, "--model", sft_run, "--ray", "local", "--workers", 2]
    assert palmette(monkeypatch, *words, "--strict") == 3
    assert out.read_bytes() == alone


def test_fields_are_extracted_as_in_one_process(sft_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents with a list, a choice, and one that cannot be read."""
    (tmp_path / "ferry.yaml").write_text(
        'fields:\n  time: When does the ferry leave?\n  piers: {question: "Which piers?", many: true}\n'
        '  kind: {question: "What leaves?", type: choice, options: [ferry, train]}\n'
    )
    for n in range(8):
        (tmp_path / f"{n}.txt").write_text(f"The ferry leaves at {n}:40 from pier {n}." if n else "")
    for name, words in (("alone", []), ("shared", ["--ray", "local", "--workers", 2])):
        given = ["extract", tmp_path / "ferry.yaml", tmp_path / "*.txt", "--out", tmp_path / f"{name}.csv"]
        assert palmette(monkeypatch, *given, "--model", sft_run, *words) == 0
    for ending in ("csv", "csv.lines.jsonl"):
        shared = (tmp_path / f"shared.{ending}").read_bytes()
        assert shared == (tmp_path / f"alone.{ending}").read_bytes()
        assert b"is empty" in shared
    settings = [
        json.loads((tmp_path / f"{name}.csv.lines.jsonl.manifest.json").read_text())["settings"]
        for name in ("alone", "shared")
    ]
    assert settings[0] == settings[1]


def test_a_worker_that_is_killed_loses_nothing(sft_run: Path, questions: Path, alone: bytes, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    killed: list[int] = []

    def kill() -> None:
        """Kill a worker as soon as the first chunk is written."""
        while not (out.is_file() and out.stat().st_size):
            time.sleep(0.01)
        worker = next(one for one in psutil.Process().children(recursive=True) if "ray::Worker" in one.name())
        killed.append(worker.pid)
        os.kill(worker.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    tally = predict_on_cluster(Reading(str(sft_run)), str(questions), out, address=LOCAL, workers=2)
    killer.join()
    assert killed
    assert (tally.rows, tally.errors) == (400, 1)
    assert out.read_bytes() == alone


def test_a_worker_looks_a_name_up_where_the_job_was_started(
    sft_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker begins in the folder in which `ray start` was called, and a machine may lack that of the job."""
    monkeypatch.chdir(tmp_path)  # the worker changes it, and this brings it back
    with pytest.raises(ModelError, match=sft_run.name):
        Worker(Reading(sft_run.name, folder=tmp_path / "away")).settings()
    assert Worker(Reading(sft_run.name, folder=sft_run.parent)).settings()["model"] == sft_run.name


def test_errors_of_workers_and_of_clusters_are_one_line(
    sft_run: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    for address, message in (("127.0.0.1:9", "'127.0.0.1:9' cannot be reached"), ("there", "'there' cannot be")):
        with pytest.raises(RunError, match=message):
            predict_on_cluster(Reading(str(sft_run)), str(questions), out, address=address)
    with pytest.raises(RunError, match="9 workers need as many processors"):
        predict_on_cluster(Reading(str(sft_run)), str(questions), out, address=LOCAL, workers=9)
    with pytest.raises(ModelError, match="no/such-run"):
        predict_on_cluster(Reading("no/such-run"), str(questions), out, address=LOCAL)
    assert palmette(monkeypatch, "predict", questions, out, "--model", sft_run, "--workers", 2) == 2
    assert "give --ray too" in capsys.readouterr().err
    assert not out.exists()


def test_without_a_cluster_the_ways_out_are_ours(
    sft_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init(*_: Any, **__: Any) -> None:  # what Ray 2.60 says, whose flag is not one of ours
        raise ConnectionError(
            "Could not find any running Ray instance. Please specify the one to connect to by setting `--address` flag "
            "or `RAY_ADDRESS` environment variable."
        )

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(RunError, match="this machine belongs to no Ray cluster") as caught:
        predict_on_cluster(Reading(str(sft_run)), "in.jsonl", tmp_path / "out.jsonl", address=OWN)
    assert "--address" not in str(caught.value)


def test_without_ray_a_line_says_how_to_get_it(sft_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RunError, match=r"pip install 'palmette\[cluster\]'"):
        predict_on_cluster(Reading(str(sft_run)), "in.jsonl", tmp_path / "out.jsonl", address=LOCAL)
