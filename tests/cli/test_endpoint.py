"""`eval endpoint`: what it writes, how it stops, and the options that all commands of an endpoint share."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from palmette.cli.main import app
from tests.support.chat_server import KEY, Act, ChatServer, fails, says
from tests.support.command import palmette
from tests.support.data import squad_file


def answer_squad(request: dict[str, Any]) -> Act:
    """What the questions of `squad_file` are answered: two right, one in broken JSON."""
    prompt = request["messages"][-1]["content"]
    for word, reply in (("built of", '{"answer": "granite"}'), ("Who", '{"answer": "?"}'), ("ferry", "It is 7:40.")):
        if word in prompt.partition("Question:")[2]:
            return says(reply)
    raise AssertionError(prompt)


def evaluate(server: ChatServer, data: Path, out: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    first = ("eval", "endpoint", "--data", data, "--out", out, "--endpoint", server.url, "--model-name", "m")
    return palmette(monkeypatch, *first, *words)


def test_eval_endpoint(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = answer_squad
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out"
    words = ("--price-in", "1", "--parameter", "temperature=null", "--parameter", "seed=5", "--prompt", "plain")
    assert evaluate(server, data, out, monkeypatch, *words) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["exact"] == pytest.approx(200 / 3)
    assert metrics["valid_json"] == pytest.approx(200 / 3)
    assert json.loads((out / "predictions.json").read_text()) == {"q1": "granite", "q2": "", "q3": "It is 7:40."}
    assert (out / "report.html").is_file()
    about = json.loads((out / "evaluation.json").read_text())
    assert (about["endpoint"], about["model"], about["used"]["asked"]) == (server.url, "m", 3)
    assert about["parameters"] == {"max_tokens": 256, "seed": 5}
    assert about["cost"] == pytest.approx(33e-6)
    assert {key for request in server.asked for key in request} == {"max_tokens", "messages", "model", "seed", "stream"}
    assert "3 requests answered" in capsys.readouterr().err
    assert evaluate(server, data, out, monkeypatch) == 2
    assert evaluate(server, data, tmp_path / "again", monkeypatch, *words, "--cache", str(tmp_path / "out.cache")) == 0
    assert len(server.asked) == 3


def test_eval_endpoint_stops_at_a_question_without_a_reply(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = lambda request: fails(400, "long") if "Who" in str(request["messages"]) else answer_squad(request)
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out"
    assert evaluate(server, data, out, monkeypatch, "--concurrency", "1") == 2
    told = capsys.readouterr().err
    assert "1 of 3 questions got no answer, 'q2' among them: the server refuses the request: status 400: long" in told
    assert f"2 answers are kept in {tmp_path / 'out.cache'}" in told
    assert not out.exists()
    assert evaluate(server, data, out, monkeypatch, "--allow-failures") == 0
    assert len(server.asked) == 4
    assert json.loads((out / "metrics.json").read_text())["exact"] == pytest.approx(100 / 3)
    assert "1 without a reply" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_answered(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The signal comes while the second request is under way; its answer is still waited for, and kept."""
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out"

    def interrupt(request: dict[str, Any]) -> Act:
        if len(server.asked) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.3)
        return answer_squad(request)

    server.answer = interrupt
    assert evaluate(server, data, out, monkeypatch, "--concurrency", "1") == 130
    assert "2 answers are kept" in capsys.readouterr().err
    assert not out.exists()
    assert evaluate(server, data, out, monkeypatch) == 0
    assert len(server.asked) == 3


def test_commands_share_the_options_of_an_endpoint() -> None:
    """Both commands have them all, with the same help. The longest completion alone differs."""
    names = "url model_name key_variable max_new_tokens temperature parameter concurrency requests_per_minute timeout"
    names += " max_retries price_in price_out cache"
    root = typer.main.get_command(app)
    one, two = (
        {parameter.name: parameter for parameter in root.commands[group].commands[name].params}
        for group, name in (("eval", "endpoint"), ("synth", "rationales"))
    )
    for name in names.split():
        assert (one[name].opts, one[name].required, one[name].help) == (
            two[name].opts,
            two[name].required,
            two[name].help,
        )
        assert name == "max_new_tokens" or one[name].default == two[name].default
    assert (one["max_new_tokens"].default, two["max_new_tokens"].default) == (256, 512)
    assert one["url"].opts == ["--endpoint"]


def test_options_become_settings(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first document has two questions. One is given up after 0.2 s, the other costs 2 * 10 + 3 * 1 millionths."""
    monkeypatch.setenv("THE_KEY", KEY)
    server.acts = [Act(delay=1.0)]
    server.answer = lambda request: says("{}", usage={"prompt_tokens": 2, "completion_tokens": 3})
    words = "--key-variable THE_KEY --max-new-tokens 9 --temperature 0.5 --concurrency 1 --requests-per-minute 6000"
    words += " --timeout 0.2 --max-retries 0 --price-in 10 --price-out 1 --allow-failures --limit 1"
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out"
    assert evaluate(server, data, out, monkeypatch, *words.split(), "--cache", str(tmp_path / "elsewhere")) == 0
    about = json.loads((out / "evaluation.json").read_text())
    assert about["parameters"] == {"max_tokens": 9, "temperature": 0.5}
    assert (about["used"]["asked"], about["used"]["failed"], about["used"]["retries"]) == (1, 1, 0)
    assert about["cost"] == pytest.approx(23e-6)
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert len(list((tmp_path / "elsewhere").rglob("*.json"))) == 1
    assert "1 failed, 0 retries. Tokens: 2 in, 3 out. Cost: 0.0000." in capsys.readouterr().err


def test_mistakes_on_the_command_line(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = squad_file(tmp_path / "a.json"), tmp_path / "out"
    for words, message in (
        (("--parameter", "seed"), "has no name or no value"),
        (("--parameter", "seed=x"), "is not JSON: 'x'"),
        (("--key-variable", "NOT_THERE"), "the environment variable NOT_THERE is not set"),
        (("--prompt", "jsn"), "there is no prompt 'jsn'"),
    ):
        assert evaluate(server, data, out, monkeypatch, *words) == 2
        assert message in capsys.readouterr().err
    assert evaluate(server, tmp_path / "b.json", out, monkeypatch) == 2
    assert "there is no data file" in capsys.readouterr().err
    assert not server.asked
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
