"""`palmette mcp` in a process of its own, asked by the official client over standard input and output."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from palmette.cli import packages
from palmette.inference.answerer import load_answerer
from tests.support.command import palmette
from tests.support.paths import SOURCE

TEXT = "The ferry leaves at 7:40 from pier 3, but not in winter."
QUESTIONS = ["When does the ferry leave?", "Where from?"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE.parent), "HF_HUB_OFFLINE": "1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder that may be read, and beside it what may not."""
    allowed = tmp_path / "papers"
    (allowed / "deep").mkdir(parents=True)
    (allowed / "ferry.txt").write_text(TEXT)
    (allowed / "deep" / "page.html").write_text(f"<p>{TEXT}</p>")
    (allowed / "schema.yaml").write_text("fields: {time: 'When does the ferry leave?'}\n")
    (tmp_path / "secret.txt").write_text("The secret is vermilion.")
    (allowed / "link.txt").symlink_to(tmp_path / "secret.txt")
    (allowed / "out").symlink_to(tmp_path)
    return allowed


def command(run: Path, folder: Path) -> list[str]:
    return ["-m", "palmette", "mcp", "--model", str(run), "--folder", str(folder)]


def talk(run: Path, folder: Path, said: Callable[[Client], Awaitable[None]]) -> None:
    """Let a client talk with a server of its own."""

    async def go() -> None:
        parameters = StdioServerParameters(command=sys.executable, args=command(run, folder), env=ENVIRONMENT)
        async with Client(stdio_client(parameters)) as client:
            await said(client)

    asyncio.run(asyncio.wait_for(go(), 120))


def test_answers_and_fields_come_as_typed_results(sft_run: Path, folder: Path) -> None:
    """Those of the model loaded here, with the place in the file."""
    expected = load_answerer(sft_run).answer(TEXT, QUESTIONS)

    async def said(client: Client) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert list(tools) == ["list_documents", "ask_document", "extract_fields"]
        for tool in tools.values():
            assert tool.output_schema is not None
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint
        assert tools["ask_document"].input_schema["required"] == ["path", "questions"]

        listed = await client.call_tool("list_documents", {})
        paths = [str(folder / name) for name in ("deep/page.html", "ferry.txt")]
        assert sorted(listed.structured_content["paths"]) == sorted(paths)

        asked = await client.call_tool("ask_document", {"path": "ferry.txt", "questions": QUESTIONS})
        assert not asked.is_error
        answers = asked.structured_content["answers"]
        for question, answer, want in zip(QUESTIONS, answers, expected, strict=True):
            assert answer["question"] == question
            assert (answer["answer"], answer["refusal"]) == (want.text or None, want.refusal or None)
            assert answer["no_answer_probability"] == pytest.approx(want.no_answer_probability, abs=2e-3)
            if want.text:
                assert answer["place"]["line"] == 1
                assert TEXT[answer["start"] : answer["end"]] == answer["answer"]

        for asked_for in ({"fields": {"time": QUESTIONS[0]}}, {"schema_file": "schema.yaml"}):
            read = await client.call_tool("extract_fields", {"path": paths[0], **asked_for})
            assert not read.is_error, read.content
            (field,) = read.structured_content["fields"].values()
            assert field["absent_probability"] == pytest.approx(expected[0].no_answer_probability, abs=2e-3)

    talk(sft_run, folder, said)


def test_what_is_outside_is_refused_and_errors_are_those_of_tools(sft_run: Path, folder: Path) -> None:
    async def said(client: Client) -> None:
        async def refused(name: str, **arguments: Any) -> str:
            reply = await client.call_tool(name, arguments)
            assert reply.is_error
            assert "vermilion" not in str(reply)
            return str(reply.content[0].text)

        outside = [folder.parent / "secret.txt", "../secret.txt", "link.txt", "out/secret.txt", "/etc/passwd"]
        for path in [*outside, folder.parent / "nothing.txt", "../nothing.txt"]:
            words = await refused("ask_document", path=str(path), questions=["What is the secret?"])
            assert "is outside the folders that may be read" in words
            assert "outside" in await refused("extract_fields", path="ferry.txt", schema_file=str(path))
        assert "is not there" in await refused("ask_document", path="gone.txt", questions=["Who?"])
        assert "is a folder" in await refused("ask_document", path="deep", questions=["Who?"])
        assert "no path" in await refused("ask_document", path="a\0b", questions=["Who?"])
        assert "has no text" in await refused("ask_document", path="ferry.txt", questions=[" "])
        assert "questions" in await refused("ask_document", path="ferry.txt", questions=[])
        assert "either fields or schema_file" in await refused("extract_fields", path="ferry.txt")
        wrong = {"total": {"question": "What?", "type": "money"}}
        assert "total" in await refused("extract_fields", path="ferry.txt", fields=wrong)
        good = await client.call_tool("ask_document", {"path": "ferry.txt", "questions": QUESTIONS})
        assert not good.is_error

    talk(sft_run, folder, said)


def test_nothing_but_the_protocol_is_on_standard_output(sft_run: Path, folder: Path) -> None:
    """Lines of JSON-RPC only, though something prints during a call. The end of the input ends the server."""
    noisy = (
        "import palmette.serving.reader as reader, sys\n"
        "plain = reader.DocumentReader.answer\n"
        "def answer(*args, **options):\n"
        "    print('noise')\n"
        "    sys.stdout.flush()\n"
        "    return plain(*args, **options)\n"
        "reader.DocumentReader.answer = answer\n"
        "from palmette.cli.main import main\n"
        f"sys.argv = {['palmette', *command(sft_run, folder)[2:]]!r}\n"
        "main()\n"
    )
    asked = {"name": "ask_document", "arguments": {"path": "ferry.txt", "questions": QUESTIONS}}
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": asked},
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", noisy],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("".join(json.dumps(message) + "\n" for message in messages))
    process.stdin.flush()
    replies = [json.loads(process.stdout.readline()) for _ in range(2)]
    rest, told = process.communicate(timeout=60)
    assert rest == ""
    assert "noise" in told
    assert process.returncode == 0
    assert [reply["id"] for reply in replies] == [1, 2]
    assert len(replies[1]["result"]["structuredContent"]["answers"]) == len(QUESTIONS)


def test_a_mistake_in_the_command_is_one_line_on_standard_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sft_run: Path, tmp_path: Path
) -> None:
    def refused(*words: str | Path) -> str:
        assert palmette(monkeypatch, "mcp", *words) == 2
        said = capsys.readouterr()
        assert said.out == ""
        return said.err.splitlines()[-1]

    assert "there is no folder" in refused("--model", sft_run, "--folder", tmp_path / "gone")
    assert "gone" in refused("--model", tmp_path / "runs" / "gone", "--folder", tmp_path)
    assert "--folder" in refused("--model", sft_run)
    real = packages.find_spec
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "mcp" else real(name))
    assert 'pip install "palmette[mcp]"' in refused("--folder", tmp_path)


def test_a_client_does_not_wait_for_torch() -> None:
    """The server says hello before the model's library is imported, which takes seconds."""
    said = "import sys, palmette.mcp.server, palmette.cli.answer.mcp; print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert found.stdout == "False\n"
