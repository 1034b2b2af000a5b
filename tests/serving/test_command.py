"""`palmette serve` in a process of its own, as it is typed: from its start to SIGTERM, and what it refuses."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from palmette.cli import packages
from palmette.web.serving import listen
from tests.support.command import palmette
from tests.support.paths import SOURCE
from tests.support.shared import runs_like

TEXT = "The ferry leaves at 7:40 from pier 3, but not in winter."


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Any]:
    """Starts the command, and waits for its address."""
    processes: list[subprocess.Popen[str]] = []

    def start(*words: str) -> tuple[subprocess.Popen[str], str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "palmette", "serve", "--port", "0", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(SOURCE.parent), "HF_HUB_OFFLINE": "1"},
        )
        processes.append(process)
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said.startswith("Ready at http://127.0.0.1:"), process.communicate()[1]
        return process, said.split()[-1].removesuffix("/v1")

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered_before_the_end(
    started: Any, sft_run: Path, tiny_folder: Path, signal_number: int
) -> None:
    """A reply of 600 tokens is on its way when the signal comes, and questions are."""
    process, url = started("--model", f"run={sft_run}", "--model", f"chat={tiny_folder}")
    text = {"model": "chat", "prompt": "The ferry", "max_tokens": 600, "seed": 1, "temperature": 2, "stream": True}
    asked = {"model": "run", "document": TEXT, "questions": ["When does the ferry leave?"]}
    with httpx2.Client(base_url=url, trust_env=False, timeout=60) as client, ThreadPoolExecutor(4) as pool:
        with client.stream("POST", "/v1/completions", json=text) as stream:
            lines = stream.iter_lines()
            assert next(lines).startswith("data:")
            waiting = [pool.submit(client.post, "/v1/answers", json=asked) for _ in range(3)]
            while "palmette_questions_total 3" not in client.get("/metrics").text:
                time.sleep(0.02)
            process.send_signal(signal_number)
            assert list(lines)[-2] == "data: [DONE]"
        for one in waiting:
            assert one.result().status_code == 200
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0
    lines = told.splitlines()
    assert lines[0] == "Loading run, chat. Ctrl-C ends the server."
    assert lines[-1] == "Stopped."
    assert {json.loads(line)["status"] for line in lines[1:-1]} == {200}


def test_every_run_in_a_folder_is_served_under_its_name(
    started: Any, sft_run: Path, reward_run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    names = [run.name for run in runs_like(sft_run, folder, 3)]
    (folder / "liked").symlink_to(reward_run)
    (folder / "lr=0.1").symlink_to(sft_run)
    process, url = started("--runs", str(folder))
    with httpx2.Client(base_url=url, trust_env=False, timeout=60) as client:
        assert [one["id"] for one in client.get("/v1/models").json()["data"]] == names
        asked = {"document": TEXT, "questions": ["When does the ferry leave?"]}
        for _ in range(2):
            replies = [client.post("/v1/answers", json={**asked, "model": name}).json() for name in names]
            probabilities = [reply["answers"][0]["no_answer_probability"] for reply in replies]
            assert len(set(probabilities)) == len(names)
        assert "palmette_switches_total 6" in client.get("/metrics").text
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert told.splitlines()[0].startswith("Left out: ")
    assert "is a reward model" in told.splitlines()[0]
    assert told.splitlines()[1].startswith("Left out: ")
    assert told.splitlines()[1].endswith("lr=0.1 has a name that no client can send.")


def test_a_model_that_cannot_be_loaded_ends_the_command_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_folder: Path
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        from palmette.errors import ModelError

        raise ModelError("the weights are damaged", "Copy them again.")

    monkeypatch.setattr("palmette.inference.together.open_answerer", broken)
    assert palmette(monkeypatch, "serve", "--model", tiny_folder, "--port", "0") == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[-1] == "error: the weights are damaged. Copy them again."


def test_bad_input_is_one_line_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny_folder: Path, tmp_path: Path
) -> None:
    def refused(*words: str | Path) -> str:
        assert palmette(monkeypatch, "serve", *words) == 2
        said = capsys.readouterr()
        assert said.out == ""
        return said.err.splitlines()[-1]

    assert "gone" in refused("--model", tmp_path / "runs" / "gone")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"{tmp_path}/rank=8/gone" in refused("--model", "~/rank=8/gone")
    assert "two models have the name 'a'" in refused("--model", f"a={tiny_folder}", "--model", f"a={tiny_folder}")
    assert "there is no API key" in refused("--model", tiny_folder, "--host", "0.0.0.0")
    assert "holds no API key" in refused("--model", tiny_folder, "--api-key-file", os.devnull)
    with listen("127.0.0.1", 0) as taken:
        assert "is taken" in refused("--model", tiny_folder, "--port", str(taken.getsockname()[1]))
    real = packages.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "fastapi" else real(name))
    assert 'pip install "palmette[web]"' in refused()
