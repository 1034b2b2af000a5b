"""Servers under 1, 4 and 16 clients: questions a second, and how long a client waits.

    python benchmarks/serve.py                                             # `palmette serve` alone, with the reader
    python benchmarks/serve.py --servers palmette,transformers,llama       # side by side, with the same weights

All servers run from the beginning to the end, and take turns: in each round every server gets the same requests, one
server at a time, and each round begins with another of them. So whatever else the machine does hits all alike. The
table has medians over the rounds, with the least and the most. *Times* is how many times the questions a second of
another server ours has in the same round.

Requests are chat completions that hold the model's own prompt, a question each. With "one document" all questions of a
round are about one, which is made of several documents of the data. With "different documents" each request has another
one. No server gets a document in two rounds, so none gains by what it kept. Each client is a thread with a connection
of its own, and sends its next question once it has its answer. A first request, which warms the server up, is not
counted. Decoding is greedy, of up to 48 tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from servers import SERVERS, Running

from palmette.data.records import Document, Question
from palmette.data.source import read_data
from palmette.inference.names import resolve_answerer
from palmette.tasks.answer_match import exact_match
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.qa_prompt import QaPrompt, load_prompt

KINDS = ("one document", "different documents")


@dataclass(frozen=True)
class Asked:
    """A request: its messages, and what would be a right answer."""

    messages: Any
    right: tuple[str, ...]


@dataclass(frozen=True)
class Turn:
    """What a server did in one round.

    Attributes:
        server, kind, clients, round: what it was.
        rate: questions a second, from the first request to the last reply.
        median, most: seconds that a client waited: the median, and the 95th percentile.
        exact: replies that are right after the normalisation of SQuAD.
        load: the machine's load average over a minute, at the end.
    """

    server: str
    kind: str
    clients: int
    round: int
    rate: float
    median: float
    most: float
    exact: int
    load: float

    @property
    def key(self) -> tuple[str, str, int, int]:
        """Which turn it is."""
        return self.server, self.kind, self.clients, self.round


def workload(documents: Iterator[Document], prompt: QaPrompt, kind: str, num_questions: int) -> list[Asked]:
    """The requests of a round.

    Raises:
        SystemExit: there are too few documents.
    """
    if kind == "different documents":
        return [_asked(prompt, one.text, one.questions[0]) for one in (_next(documents) for _ in range(num_questions))]
    parts: list[Document] = []
    while sum(len(part.questions) for part in parts) < num_questions:
        parts.append(_next(documents))
    text = "\n\n".join(part.text for part in parts)
    return [_asked(prompt, text, question) for part in parts for question in part.questions][:num_questions]


def _next(left: Iterator[Document]) -> Document:
    for document in left:
        if document.questions:
            return document
    raise SystemExit("there are too few documents: give another --data, or fewer --questions or --rounds")


def _asked(prompt: QaPrompt, text: str, question: Question) -> Asked:
    messages = qa_messages(prompt, Document("document", text, ()), question)
    return Asked(messages, tuple(answer.text for answer in question.answers) or ("",))


def measure(
    server: Running, requests: Sequence[Asked], num_clients: int, prompt: QaPrompt
) -> tuple[list[float], float, int]:
    """Let clients ask until all questions are answered: the seconds of each, of all, and how many answers are right."""
    waiting, lock = iter(requests), threading.Lock()
    seconds: list[float] = []
    exact = 0

    def client() -> None:
        nonlocal exact
        with server.connect() as connection:
            while True:
                with lock:
                    asked = next(waiting, None)
                if asked is None:
                    return
                started = time.perf_counter()
                text = server.ask(connection, asked.messages)
                took = time.perf_counter() - started
                with lock:
                    seconds.append(took)
                    exact += bool(exact_match(prompt.read(text).text or "", list(asked.right)))

    threads = [threading.Thread(target=client) for _ in range(num_clients)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - started
    if len(seconds) < len(requests):
        raise SystemExit(f"{len(requests) - len(seconds)} of {len(requests)} requests failed")
    return seconds, wall, exact


def turn(server: Running, kind: str, clients: int, number: int, requests: Sequence[Asked], prompt: QaPrompt) -> Turn:
    """One server in one round."""
    seconds, wall, exact = measure(server, requests, clients, prompt)
    most = float(np.quantile(seconds, 0.95))
    rate, load = len(seconds) / wall, os.getloadavg()[0]
    return Turn(server.name, kind, clients, number, rate, statistics.median(seconds), most, exact, load)


def table(turns: Sequence[Turn], num_questions: int) -> Iterator[str]:
    """Medians over the rounds, and how many times another server's rate the first server has."""
    yield "| requests | clients | server | questions/s (least to most) | median s | 95 % s | exact | times |"
    yield "|---|---:|---|---:|---:|---:|---:|---:|"
    for kind, clients in dict.fromkeys((one.kind, one.clients) for one in turns):
        cell = [one for one in turns if (one.kind, one.clients) == (kind, clients)]
        ours = {one.round: one.rate for one in cell if one.server == cell[0].server}
        for name in dict.fromkeys(sorted((one.server for one in cell), key=lambda name: name != cell[0].server)):
            own = [one for one in cell if one.server == name]
            times = [ours[one.round] / one.rate for one in own if one.round in ours]
            exact = sum(one.exact for one in own) / (num_questions * len(own))
            waited = (statistics.median(one.median for one in own), statistics.median(one.most for one in own))
            cells = [kind, clients, name, _spread([one.rate for one in own]), *(f"{one:.2f}" for one in waited)]
            yield "| " + " | ".join(map(str, [*cells, f"{exact:.0%}", _spread(times)])) + " |"


def _spread(values: Sequence[float]) -> str:
    """The median, the least and the most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="reader", help="a run")
    parser.add_argument("--data", default="builtin:train")
    parser.add_argument("--servers", default="palmette", help=f"of {', '.join(SERVERS)}, with commas between")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of requests, with commas between")
    parser.add_argument("--clients", default="1,4,16", help="numbers of clients")
    parser.add_argument("--questions", type=int, default=16, help="questions of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--json", type=Path, help="write every turn here. The same command goes on with those that are missing"
    )
    options = parser.parse_args()
    recipe = resolve_answerer(options.model).recipe
    prompt = load_prompt(recipe.prompt.name if recipe is not None else "plain")
    documents = iter(read_data(options.data).documents)
    threads = os.environ.get("OMP_NUM_THREADS", "as many as cores")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, threads: {threads}")
    print(", ".join(f"{name} {version(name)}" for name in ("palmette", "torch", "transformers")), flush=True)
    turns = _done(options.json)
    kinds, clients_of = options.kinds.split(","), [int(word) for word in options.clients.split(",")]
    asked = {
        (number, kind, clients): workload(documents, prompt, kind, options.questions)
        for number, kind, clients in product(range(options.rounds), kinds, clients_of)
    }
    with ExitStack() as opened:
        servers = [opened.enter_context(SERVERS[name](options.model)) for name in options.servers.split(",")]
        for server in servers:
            with server.connect() as connection:
                server.ask(connection, _asked(prompt, "The ferry leaves at 7.", Question("q", "When?")).messages)
        for (number, kind, clients), requests in asked.items():
            first = number % len(servers)
            for server in servers[first:] + servers[:first]:
                if not any((server.name, kind, clients, number) == one.key for one in turns):
                    turns.append(turn(server, kind, clients, number, requests, prompt))
                    _write(turns[-1], options.json)
    print("\n" + "\n".join(table(sorted(turns, key=lambda one: one.server != servers[0].name), options.questions)))


def _done(path: Path | None) -> list[Turn]:
    """The turns that a file holds."""
    if path is None or not path.exists():
        return []
    return [Turn(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def _write(one: Turn, path: Path | None) -> None:
    line = json.dumps(asdict(one))
    print(line, flush=True)
    if path is not None:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


if __name__ == "__main__":
    main()
