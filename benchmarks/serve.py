"""Servers under 1, 4 and 16 clients: questions a second, and how long a client waits.

    python benchmarks/serve.py                           # `palmette serve` alone, with the reader
    python benchmarks/serve.py --rival                   # beside `transformers serve` with the same weights

Every server gets the same requests: chat completions that hold the model's own prompt, a question each. With "one
document" all questions are about one, which is made of several documents of the data. With "different documents" each
request has another one, which no server has read before. No question is asked twice by anybody, so no server gains by
keeping answers. Each client is a thread with a connection of its own, and sends its next question once it has its
answer. A first request, which warms the server up, is not counted.

transformers gets the run's adapter merged into its weights (`palmette merge`), and greedy decoding of up to 48 tokens.
"""

from __future__ import annotations

import argparse
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx2

from palmette.data.records import Document, Question
from palmette.data.source import read_data
from palmette.inference.names import open_source
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.qa_prompt import QaPrompt, load_prompt

PATIENCE = 600  # seconds


@dataclass(frozen=True)
class Cell:
    """What a server did under so many clients.

    Attributes:
        seconds: of each request, sorted.
        wall: seconds from the first request to the last reply.
        valid: replies that hold an answer in the format asked for.
    """

    seconds: tuple[float, ...]
    wall: float
    valid: int

    def row(self) -> str:
        """Questions a second, the median and the 95th percentile of waiting in seconds, and the share of valid JSON."""
        cuts = statistics.quantiles(self.seconds, n=20, method="inclusive")
        rate, valid = len(self.seconds) / self.wall, self.valid / len(self.seconds)
        return f"{rate:5.2f} | {statistics.median(self.seconds):5.2f} | {cuts[-1]:5.2f} | {valid:.0%}"


def workloads(documents: Sequence[Document], prompt: QaPrompt, num_cells: int, num_questions: int) -> dict[str, Any]:
    """The messages of the requests of each workload, cell by cell. No document stands in two cells.

    Raises:
        SystemExit: there are too few documents.
    """
    left = iter(documents)
    cells: dict[str, list[list[Any]]] = {"one document": [], "different documents": []}
    for _ in range(num_cells):
        parts: list[Document] = []
        while sum(len(part.questions) for part in parts) < num_questions:
            parts.append(_next(left))
        text = "\n\n".join(part.text for part in parts)
        questions = [question for part in parts for question in part.questions][:num_questions]
        cells["one document"].append([_messages(prompt, text, question) for question in questions])
        others = [_next(left) for _ in range(num_questions)]
        cells["different documents"].append([_messages(prompt, one.text, one.questions[0]) for one in others])
    return cells


def _next(left: Iterator[Document]) -> Document:
    for document in left:
        if document.questions:
            return document
    raise SystemExit("there are too few documents: give another --data, or fewer --questions")


def _messages(prompt: QaPrompt, text: str, question: Question) -> Any:
    return qa_messages(prompt, Document("document", text, ()), question)


def measure(url: str, model: str, messages: Sequence[Any], num_clients: int, prompt: QaPrompt) -> Cell:
    """Let clients ask until all questions are answered."""
    waiting = iter(messages)
    lock = threading.Lock()
    seconds: list[float] = []
    valid = 0

    def client() -> None:
        nonlocal valid
        with httpx2.Client(base_url=url, trust_env=False, timeout=PATIENCE) as connection:
            while True:
                with lock:
                    asked = next(waiting, None)
                if asked is None:
                    return
                started = time.perf_counter()
                text = ask(connection, model, asked)
                took = time.perf_counter() - started
                with lock:
                    seconds.append(took)
                    valid += prompt.read(text).valid

    threads = [threading.Thread(target=client) for _ in range(num_clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - started
    if len(seconds) < len(messages):
        raise SystemExit(f"{len(messages) - len(seconds)} of {len(messages)} requests failed")
    return Cell(tuple(sorted(seconds)), wall, valid)


def ask(connection: httpx2.Client, model: str, messages: Any) -> str:
    """The text of a reply."""
    body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 48}
    response = connection.post("/v1/chat/completions", json=body)
    response.raise_for_status()
    return str(response.json()["choices"][0]["message"]["content"])


@contextmanager
def server(command: Sequence[str], port: int) -> Iterator[str]:
    """A server in a process of its own, once it is ready. The result is its address."""
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        try:
            for _ in range(PATIENCE):
                if process.poll() is not None:
                    log.seek(0)
                    raise SystemExit(f"{command[0]} ended:\n{log.read().decode(errors='replace')[-2000:]}")
                try:
                    if httpx2.get(f"{url}/health", trust_env=False).status_code == 200:
                        break
                except httpx2.HTTPError:
                    pass
                time.sleep(1)
            yield url
        finally:
            process.terminate()
            process.wait(60)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@contextmanager
def rival(model: str) -> Iterator[tuple[str, str]]:
    """`transformers serve` with the merged weights: its address, and the name of the model."""
    with tempfile.TemporaryDirectory() as folder:
        plain = str(Path(folder, "plain"))
        run = open_source(model).folder or model
        subprocess.run([sys.executable, "-m", "palmette", "merge", str(run), "--out", plain], check=True)
        port = free_port()
        program = str(Path(sys.executable).with_name("transformers"))
        with server([program, "serve", plain, "--host", "127.0.0.1", "--port", str(port)], port) as url:
            yield url, plain


@contextmanager
def ours(model: str) -> Iterator[tuple[str, str]]:
    """`palmette serve`: its address, and the name of the model."""
    port = free_port()
    command = [sys.executable, "-m", "palmette", "serve", "--model", f"served={model}", "--port", str(port)]
    with server(command, port) as url:
        yield url, "served"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="reader", help="a run")
    parser.add_argument("--data", default="builtin:train")
    parser.add_argument("--clients", default="1,4,16", help="numbers of clients")
    parser.add_argument("--questions", type=int, default=20, help="questions of each cell")
    parser.add_argument("--rival", action="store_true", help="measure transformers serve too")
    arguments = parser.parse_args()
    numbers = [int(number) for number in arguments.clients.split(",")]
    recipe = open_source(arguments.model).recipe
    prompt = load_prompt(recipe.prompt.name if recipe is not None else "plain")
    asked = workloads(read_data(arguments.data).documents, prompt, len(numbers), arguments.questions)
    threads = os.environ.get("OMP_NUM_THREADS", "as many as cores")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, threads: {threads}")
    print(", ".join(f"{name} {version(name)}" for name in ("palmette", "torch", "transformers")))
    print("\n| server | requests | clients | questions/s | median s | 95 % s | valid JSON |")
    print("|---|---|---|---|---|---|---|")
    for name, opened in (("palmette serve", ours), ("transformers serve", rival)):
        if opened is rival and not arguments.rival:
            continue
        with opened(arguments.model) as (url, model):
            with httpx2.Client(base_url=url, trust_env=False, timeout=PATIENCE) as connection:
                ask(connection, model, _messages(prompt, "The ferry leaves at 7.", Question("q", "When?")))
            for kind, cells in asked.items():
                for number, messages in zip(numbers, cells, strict=True):
                    cell = measure(url, model, messages, number, prompt)
                    print(f"| {name} | {kind} | {number} | {cell.row()} |", flush=True)


if __name__ == "__main__":
    main()
