"""`predict_rows` with a decoder whose answers are known."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from palmette.data.records import Document
from palmette.data.stream import read_rows
from palmette.decode.prediction import Candidate, Prediction
from palmette.errors import ModelError, PackingError
from palmette.inference.job import by_decoder, predict_rows
from palmette.inference.tally import Tally

SETTINGS = {"model": "fake", "max_passes": 4, "min_confidence": 0.0}


@dataclass
class Fake:
    """Answers with the document's word that the question gives the number of, "?" if it has fewer; refuses some
    documents.
    """

    seconds: float = 0.0
    stops: bool = False
    answers: int = 0
    calls: list[list[Document]] = field(default_factory=list)

    def predict(self, documents: Sequence[Document]) -> Iterator[tuple[str, Prediction]]:
        self.calls.append(list(documents))
        found = []
        for document in documents:
            if "too long" in document.text:
                raise PackingError(f"document {document.id!r} is too long", "Shorten it.")
            for question in document.questions:
                if self.stops or question.text == "stop":
                    raise KeyboardInterrupt
                if question.text == "refused":
                    raise ModelError(f"question {question.id!r} is refused", "Ask something else.")
                time.sleep(self.seconds)
                self.answers += 1
                found.append((question.id, answer(document.text, question.text)))
        yield from reversed(found)  # any order is allowed


def answer(text: str, question: str) -> Prediction:
    places = [match.span() for match in re.finditer("[^ ]+", text)]
    spans = tuple(Candidate(text[a:b], a, b, 1 / (3 + i)) for i, (a, b) in enumerate(places))
    number = int(question.split()[-1])
    if number >= len(spans):
        refusal: Any = "absent" if number < 100 else "unsure" if number < 200 else ""
        return Prediction("", refusal, probability=0.75, no_answer_probability=0.75, candidates=spans)
    best = spans[number]
    if question.startswith("no number"):
        return Prediction(best.text, "", best.start, best.end, float("nan"))
    return Prediction(best.text, "", best.start, best.end, 2 / 3, 0.25, spans, certified=True)


def row(question: Any, context: Any, **others: Any) -> str:
    return json.dumps({"question": question, "context": context, **others}, ensure_ascii=False)


def many(count: int) -> list[str]:
    """Rows about documents that follow one another, three rows each; some are bad, some lines blank."""
    rows = [
        row(f"word {i % 5}", f"dök {i // 3} says “yes”", **({"id": f"id {i}"} if i % 2 else {})) for i in range(count)
    ]
    rows[1:1] = ["", "not JSON"]
    rows[count // 2] = row("word 1", f"too long {count}", id=count)
    return rows


def predict(lines: Iterable[str], out: Path, decoder: Any = None, max_rows: int = 4, **changes: Any) -> Tally:
    raw = (line.encode("utf-8", "surrogatepass") + b"\n" for line in lines)
    return predict_rows(by_decoder(decoder or Fake()), read_rows(raw), out, {**SETTINGS, **changes}, max_rows=max_rows)


def work_until_killed(folder: str, seed: str) -> None:
    """The body of a process that is killed at a random moment after a random number of answers."""
    chance, decoder = random.Random(seed), Fake(seconds=0.001)
    answers, delay = chance.randrange(60), chance.uniform(0.0, 0.004)

    def kill() -> None:
        while decoder.answers < answers:
            time.sleep(0.0002)
        time.sleep(delay)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    predict(many(90), Path(folder) / "out.jsonl", decoder)
