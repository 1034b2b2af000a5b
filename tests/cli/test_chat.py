"""`palmette chat`: through a pipe, and in a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from palmette.cli.answer import chat as module
from tests.support.command import palmette


def chat(monkeypatch: pytest.MonkeyPatch, model: Path, said: bytes, *words: str) -> int:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(said)))
    return palmette(monkeypatch, "chat", "--model", model, "--max-new-tokens", "8", *words)


def test_each_line_of_a_pipe_gets_a_reply(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    said = "When?\n\n:new\nWhen?\nWo\u017c?\n".encode()
    assert chat(monkeypatch, tiny_folder, said, "--json") == 0
    rows = [json.loads(line) for line in capfdbinary.readouterr().out.decode().splitlines()]
    assert [row["message"] for row in rows] == ["When?", "When?", "Wo\u017c?"]
    assert rows[0] == rows[1], "a new conversation knows nothing of the one before"
    assert {*rows[0]} == {"message", "reply", "num_tokens", "finish"}


def test_replies_are_text_without_control_characters(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(monkeypatch, tiny_folder, b"When?\nWhere?\n") == 0
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) >= 2
    module._write("a\x1b[2Jb\nc\x07")
    assert capsys.readouterr().out == "a [2Jb\nc "
    assert "cut after 8 tokens" in shown.err


@pytest.mark.parametrize(
    ("said", "words", "message"),
    [
        (b"W\xff?\n", (), "line 1 of standard input is not UTF-8 at its byte 1"),
        (b"When?\n", ("--top-p", "0"), "a top-p of 0.0 cannot be used"),
    ],
)
def test_mistakes_are_one_line(
    said: bytes,
    words: tuple[str, ...],
    message: str,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert chat(monkeypatch, tiny_folder, said, *words) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert message in line


def test_a_run_on_questions_says_what_it_is_for(
    run_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chat(monkeypatch, run_folder, b"") == 0
    assert "was fine-tuned on questions about documents" in capsys.readouterr().err


def test_a_conversation_in_a_terminal(tiny_folder: Path, tmp_path: Path) -> None:
    """Commands work, a mistake does not end it, and what was typed is remembered."""
    main, terminal = pty.openpty()
    words = ["chat", "--model", str(tiny_folder), "--max-new-tokens", "3"]
    environment = {**os.environ, "PALMETTE_CACHE": str(tmp_path), "TERM": "dumb", "COLUMNS": "80"}
    process = subprocess.Popen(
        [sys.executable, "-m", "palmette", *words], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    )
    os.close(terminal)
    shown = b""

    def read_until(*texts: bytes) -> None:
        """Read what is shown, until these texts have come one after the other."""
        nonlocal shown
        start, pattern = len(shown), b".*".join(map(re.escape, texts))
        while not re.search(pattern, shown[start:], re.DOTALL):
            assert select.select([main], [], [], 60)[0], shown
            shown += os.read(main, 4096)

    read_until(b"> ")
    for typed, answered in ((":help", b"Ctrl-C stops"), ("When?", b"(cut after 3 tokens"), (":new", b"A new conv")):
        os.write(main, f"{typed}\n".encode())
        read_until(answered, b"\n> ")
    os.write(main, b":quit\n")
    assert process.wait(timeout=60) == 0
    os.close(main)
    assert "When?" in (tmp_path / "chat_history").read_text()
    assert (tmp_path / "chat_history").stat().st_mode & 0o077 == 0


def test_a_run_on_conversations_is_to_be_talked_with(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training ends with the command to try, and that command needs no advice about documents."""
    turns = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": "At noon."}]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    recipe = {
        "output": str(tmp_path / "run"),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"kind": "chat", "train": [str(tmp_path / "chat.jsonl")]},
        "train": {"epochs": 1},
    }
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    assert palmette(monkeypatch, "train", "sft", tmp_path / "r.yaml") == 0
    assert f"chat --model {tmp_path / 'run'}" in capsys.readouterr().err
    assert chat(monkeypatch, tmp_path / "run", b"When?\n") == 0
    assert "fine-tuned on questions" not in capsys.readouterr().err
