"""`palmette serve` under clients of which some vanish, for minutes: is a request lost, and does the memory grow?

    python benchmarks/soak.py --seconds 600

Each client asks for one of four things, again and again: answers about a document of its own, answers about a document
that all share, the model's own prompt through chat completions, or free text in pieces. A share of the requests is
given up: the client closes the connection after a moment, before its reply or in the middle of it. A request is lost if
it was not given up and got no whole, right-shaped reply. A refusal with status 503, when the queue is full, is counted
apart, and the client tries again.

At the end nothing may wait any more, and the server's own counter must know of all requests. The memory is the resident
set of the server's process, once in a few seconds. The table has it by tenths of the time, and the line after it the
slope over the second half.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

import httpx2
import psutil
from servers import Running, palmette_server

from palmette.data.records import Document
from palmette.data.source import read_data
from palmette.inference.names import resolve_answerer
from palmette.tasks.extractive_qa import qa_messages
from palmette.tasks.qa_prompt import QaPrompt, load_prompt

KINDS = ("own document", "shared document", "own prompt", "free text")
SAMPLED = 5  # seconds between two looks at the memory
DRAINED = 120  # seconds in which the server has to come to rest


@dataclass
class Tally:
    """What became of requests, of all clients.

    Attributes:
        counts: requests by kind and outcome: "answered", "given up", "refused" (503) or "lost".
        lost: what happened to those that were lost.
        seconds: how long answered requests took.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, outcome: str, seconds: float = 0.0, why: str = "") -> None:
        """Count a request."""
        with self.lock:
            self.counts[kind, outcome] += 1
            if outcome == "answered":
                self.seconds.append(seconds)
            if outcome == "lost":
                self.lost.append(f"{kind}: {why}")

    def of(self, outcome: str) -> int:
        """The number of requests with an outcome."""
        return sum(number for (_, one), number in self.counts.items() if one == outcome)


class Client:
    """A client that asks until it is time.

    Args:
        server: the server.
        documents: what it asks about.
        prompt: the model's own prompt.
        seed: of its choices.
        share: of the requests that it gives up.
        tally: counts what became of them.
    """

    def __init__(
        self, server: Running, documents: Sequence[Document], prompt: QaPrompt, seed: int, share: float, tally: Tally
    ) -> None:
        self._server, self._documents, self._prompt = server, documents, prompt
        self._random, self._share, self._tally = random.Random(seed), share, tally

    def run(self, until: float) -> None:
        """Ask until a time of the monotonic clock."""
        while time.monotonic() < until:
            kind = self._random.choice(KINDS)
            path, body = self._request(kind)
            leaves = self._random.random() < self._share
            patience = self._random.choice((0.02, 0.2, 1.0, 3.0)) if leaves else 300.0
            started = time.monotonic()
            outcome, why = self._sent(path, body, patience, leaves=leaves)
            self._tally.add(kind, outcome, time.monotonic() - started, why)
            if outcome == "refused":
                time.sleep(1.0)

    def _request(self, kind: str) -> tuple[str, dict[str, Any]]:
        """The path and the body of a request."""
        document = self._random.choice(self._documents)
        own = f"{document.text}\n\nNumber {self._random.randrange(10**9)}."  # which nobody has sent before
        question = self._random.choice(document.questions)
        if kind == "own document":
            return "/v1/answers", {"model": "served", "document": own, "questions": [question.text]}
        if kind == "shared document":
            shared = self._documents[0]
            asked = [one.text for one in self._random.sample(shared.questions, min(2, len(shared.questions)))]
            return "/v1/answers", {"model": "served", "document": shared.text, "questions": asked}
        if kind == "own prompt":
            messages: Any = qa_messages(self._prompt, Document("document", own, ()), question)
            return "/v1/chat/completions", {"model": "served", "messages": messages}
        messages = [{"role": "user", "content": f"Tell me about this: {question.text}"}]
        limit = self._random.choice((4, 16, 48))
        return "/v1/chat/completions", {"model": "served", "messages": messages, "max_tokens": limit, "stream": True}

    def _sent(self, path: str, body: dict[str, Any], patience: float, *, leaves: bool) -> tuple[str, str]:
        """What became of a request, and why."""
        begun, until = False, time.monotonic() + patience
        try:
            with (
                httpx2.Client(base_url=self._server.url, trust_env=False, timeout=patience) as connection,
                connection.stream("POST", path, json=body) as response,
            ):
                begun, read = True, b""
                if response.status_code == 503:
                    return "refused", ""
                for piece in response.iter_raw():
                    read += piece
                    if leaves and time.monotonic() > until:
                        return "given up", ""
                if response.status_code != 200:
                    return "lost", f"status {response.status_code}: {read[:200]!r}"
            return ("answered", "") if is_whole(body, read) else ("lost", f"the reply is {read[-200:]!r}")
        except httpx2.HTTPError as error:
            if leaves and isinstance(error, httpx2.TimeoutException):
                return "given up", ""
            return "lost", f"{type(error).__name__} {'in' if begun else 'before'} the reply: {error}"


def is_whole(body: dict[str, Any], read: bytes) -> bool:
    """Whether a reply has all that was asked for."""
    if body.get("stream"):
        return read.endswith(b"data: [DONE]\n\n") and b'"finish_reason":"' in read.replace(b": ", b":")
    reply = json.loads(read)
    if "questions" in body:
        return len(reply["answers"]) == len(body["questions"])
    return bool(reply["choices"][0]["message"]["content"])


class Watch(threading.Thread):
    """Looks at the memory of a process until it is stopped.

    Attributes:
        seen: seconds since the beginning, and MiB.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process, self._stop_now = psutil.Process(pid), threading.Event()
        self.seen: list[tuple[float, float]] = []

    def run(self) -> None:
        """Look every few seconds."""
        started = time.monotonic()
        while not self._stop_now.is_set():
            self.seen.append((time.monotonic() - started, self._process.memory_info().rss / 2**20))
            self._stop_now.wait(SAMPLED)

    def stop(self) -> None:
        """Stop, and wait for the last look."""
        self._stop_now.set()
        self.join()


def metric(server: Running, name: str, labels: str = "") -> float:
    """The sum of a metric of the server, over all labels in which these stand."""
    with server.connect() as connection:
        text = connection.get("/metrics").text
    lines = re.findall(rf"^palmette_{name}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for found, value in lines if labels in found)


def drained(server: Running) -> bool:
    """Whether the server comes to rest."""
    until = time.monotonic() + DRAINED
    while time.monotonic() < until:
        if metric(server, "waiting_requests") == 0:
            return True
        time.sleep(1)
    return False


def by_tenths(seen: Sequence[tuple[float, float]]) -> list[float]:
    """The median memory in each tenth of the time, in MiB. A tenth in which nobody looked has none."""
    end = max(at for at, _ in seen) + 1e-9
    parts: list[list[float]] = [[] for _ in range(10)]
    for at, size in seen:
        parts[int(10 * at / end)].append(size)
    return [median(part) for part in parts if part]


def slope(seen: Sequence[tuple[float, float]]) -> float:
    """MiB a minute over the second half, by least squares."""
    half = max(at for at, _ in seen) / 2
    late = [(at / 60, size) for at, size in seen if at >= half]
    return linear_regression(*zip(*late, strict=True)).slope


def main() -> None:
    """Let clients come and go, and print what became of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="reader", help="a run")
    parser.add_argument("--data", default="builtin:train")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--share", type=float, default=0.3, help="of requests that are given up")
    parser.add_argument("--kept-tokens", type=int, default=4096, help="of documents, so few that memory is full early")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    recipe = resolve_answerer(options.model).recipe
    prompt = load_prompt(recipe.prompt.name if recipe is not None else "plain")
    documents = [one for one in read_data(options.data).documents if one.questions]
    tally, started = Tally(), time.monotonic()
    with palmette_server(options.model, "--kept-tokens", str(options.kept_tokens)) as server:
        watch = Watch(server.pid)
        watch.start()
        with contextlib.ExitStack() as ended:
            ended.callback(watch.stop)
            until = time.monotonic() + options.seconds
            clients = [Client(server, documents, prompt, seed, options.share, tally) for seed in range(options.clients)]
            threads = [threading.Thread(target=client.run, args=(until,)) for client in clients]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            rests = drained(server)
            known = metric(server, "requests_total", 'path="/v1/')
    print(f"{options.clients} clients, {time.monotonic() - started:.0f} s, load {os.getloadavg()[0]:.1f} at the end")
    outcomes = ("answered", "given up", "refused", "lost")
    print("| requests | " + " | ".join(outcomes) + " |\n|---|" + "---:|" * len(outcomes))
    for kind in KINDS:
        print(f"| {kind} | " + " | ".join(str(tally.counts[kind, outcome]) for outcome in outcomes) + " |")
    print("| all | " + " | ".join(str(tally.of(outcome)) for outcome in outcomes) + " |")
    for why in tally.lost[:5]:
        print(f"lost: {why}")
    sizes = by_tenths(watch.seen)
    print("MiB by tenths of the time: " + ", ".join(f"{size:.0f}" for size in sizes))
    print(f"slope over the second half: {slope(watch.seen):+.2f} MiB a minute")
    print(f"answered in {median(tally.seconds):.2f} s (median)")
    print(f"the server counted {known:.0f} requests, and {'nothing waits' if rests else 'something still waits'}")
    if options.json:
        options.json.write_text(
            json.dumps({"memory": watch.seen, "counts": [[*k, n] for k, n in tally.counts.items()]})
        )
    if tally.lost or not rests:
        raise SystemExit("requests were lost" if tally.lost else "the server did not come to rest")


if __name__ == "__main__":
    main()
