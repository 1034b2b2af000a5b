"""Answers per second and their quality, for one fine-tuned model: the span decoder against plain and constrained
generation.

All rivals answer the same questions with the same merged weights in one run. The quick ones are repeated in turn, so
that a noisy machine disturbs them alike. Prints a table; the last line is the ratio alone: span decoder over batched
greedy generation at its best batch size, questions per second, medians.

    python benchmarks/decode.py --model runs/quickstart [--data builtin:test] [--documents N] [--repeats 3] [--skip beam
    ...]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rivals import LlamaServer, PromptLookup, SubstringGrammar

from palmette.data.records import Document
from palmette.data.source import read_source
from palmette.decode.generation import GenerationDecoder, prediction_of
from palmette.decode.prediction import Decoder, Prediction
from palmette.evaluate.squad_metrics import score_answers, summarize
from palmette.inference.answerer import NUM_BEAMS, Answerer, load_answerer
from palmette.run import machine
from palmette.tasks.qa_prompt import read_completion

SPAN, GREEDY, LLAMA = "span decoder", "greedy", "llama.cpp"
BATCH_SIZES = (8, 16, 32)
COLUMNS = ("exact", "f1", "HasAns_exact", "NoAns_exact", "valid_json", "verbatim")
Answer = Callable[[Sequence[Document]], Mapping[str, Prediction]]


@dataclass
class Way:
    """A way to answer, and what it showed."""

    name: str
    answer: Answer
    seconds: list[float] = field(default_factory=list)
    predictions: Mapping[str, Prediction] = field(default_factory=dict)

    def run(self, documents: Sequence[Document]) -> None:
        """Answer everything once more, timed."""
        started = time.monotonic()
        self.predictions = self.answer(documents)
        self.seconds.append(time.monotonic() - started)
        print(f"  {self.name}: {self.seconds[-1]:.1f} s", flush=True)


def decoded(decoder: Decoder) -> Answer:
    """A decoder of palmette as a way to answer."""
    return lambda documents: dict(decoder.predict(documents))


def generated(opened: Answerer, *, num_beams: int = 1, batch_size: int = 16) -> Answer:
    """Plain generation, without the pass that scores abstention."""
    model, tokenizer, task = opened.loaded.model, opened.loaded.tokenizer, opened.task
    return decoded(
        GenerationDecoder(model, tokenizer, task, num_beams=num_beams, batch_size=batch_size, score_abstention=False)
    )


def replied(rival: PromptLookup | SubstringGrammar | LlamaServer) -> Answer:
    """A rival's raw completions, read strictly."""

    def answer(documents: Sequence[Document]) -> Mapping[str, Prediction]:
        raw = rival.completions(documents)
        return {
            question.id: prediction_of(read_completion(raw[question.id]), raw[question.id], document)
            for document in documents
            for question in document.questions
        }

    return answer


def best_greedy(opened: Answerer, documents: Sequence[Document]) -> Way:
    """Greedy generation at the batch size that is fastest on a part of the documents."""
    trials = {}
    for batch_size in BATCH_SIZES:
        way = Way(f"{GREEDY}, batch {batch_size}", generated(opened, batch_size=batch_size))
        way.run(documents[: max(2, len(documents) // 4)])
        trials[batch_size] = way.seconds[0]
    best = min(trials, key=lambda size: trials[size])
    return Way(f"{GREEDY}, batch {best}", generated(opened, batch_size=best))


def measure(opened: Answerer, documents: Sequence[Document], repeats: int, skip: Sequence[str]) -> list[Way]:
    """Run every way; the quick ones in turn, the slow ones once."""
    model, tokenizer, task = opened.loaded.model, opened.loaded.tokenizer, opened.task
    greedy, span = best_greedy(opened, documents), Way(SPAN, decoded(opened.span_decoder()))
    ways = [greedy, span]
    span.answer(documents[:2])
    for _ in range(repeats):
        for way in (greedy, span):
            way.run(documents)
    if "llama" not in skip:
        ways += _llama(opened, documents, repeats)
    slow: dict[str, Callable[[], Answer]] = {
        "grammar": lambda: replied(SubstringGrammar(model, tokenizer, task)),
        "lookup": lambda: replied(PromptLookup(model, tokenizer, task)),
        "beam": lambda: generated(opened, num_beams=NUM_BEAMS, batch_size=4),
    }
    names = {"grammar": "greedy, substring grammar (llguidance)", "lookup": "greedy, prompt lookup", "beam": "beam 10"}
    for key, make in slow.items():
        if key in skip:
            continue
        try:
            way = Way(names[key], make())
        except ImportError as error:
            print(f"  {names[key]}: {error}")
            continue
        way.run(documents)
        ways.append(way)
    return ways


def _llama(opened: Answerer, documents: Sequence[Document], repeats: int) -> list[Way]:
    with tempfile.TemporaryDirectory() as folder:
        opened.loaded.model.save_pretrained(folder)
        opened.loaded.tokenizer.save_pretrained(folder)
        try:
            server = LlamaServer(Path(folder), opened.task, Path(folder))
        except ImportError as error:
            print(f"  {LLAMA}: {error}")
            return []
        with server:
            way = Way(server.name, replied(server))
            way.answer(documents[:2])
            for _ in range(repeats):
                way.run(documents)
    return [way]


def table(ways: Sequence[Way], documents: Sequence[Document]) -> str:
    """The results as Markdown."""
    num_questions = sum(len(document.questions) for document in documents)
    lines = [f"| way | questions/s (least to most) | {' | '.join(COLUMNS)} |", "|---|---:|" + "---:|" * len(COLUMNS)]
    for way in ways:
        rates = sorted(num_questions / seconds for seconds in way.seconds)
        spread = f" ({rates[0]:.2f} to {rates[-1]:.2f})" if len(rates) > 1 else ""
        metrics = summarize(score_answers(documents, way.predictions))
        numbers = ["-" if metrics.get(key) is None else f"{metrics[key]:.1f}" for key in COLUMNS]
        lines.append(f"| {way.name} | {statistics.median(rates):.2f}{spread} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def passes(span: Way) -> str:
    """How many forward passes the span decoder took, and how much it proved."""
    found = list(span.predictions.values())
    counts = sorted(prediction.num_passes for prediction in found)
    shares = ", ".join(f"{n}: {100 * counts.count(n) / len(counts):.1f} %" for n in sorted(set(counts)))
    certified = 100 * sum(prediction.certified for prediction in found) / len(found)
    return f"span decoder: passes {shares}; median {statistics.median(counts):g}; proved {certified:.1f} %"


def spread(documents: Sequence[Document], num: int | None) -> Sequence[Document]:
    """So many documents, evenly spread over all of them."""
    if num is None or num >= len(documents):
        return documents
    return [documents[index * len(documents) // num] for index in range(num)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="runs/quickstart")
    parser.add_argument("--data", default="builtin:test")
    parser.add_argument("--documents", type=int, help="so many of them, evenly spread")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--skip", nargs="*", default=[], choices=["llama", "grammar", "lookup", "beam"])
    options = parser.parse_args()
    opened = load_answerer(options.model, calibrated=False)
    documents = spread(read_source(options.data).documents, options.documents)
    num_questions = sum(len(document.questions) for document in documents)
    print(
        f"{options.model}, {opened.loaded.model.dtype}, {options.data}: "
        f"{len(documents)} documents, {num_questions} questions"
    )
    print(machine())
    ways = measure(opened, documents, options.repeats, options.skip)
    print(table(ways, documents))
    print(passes(ways[1]))
    greedy, span = (statistics.median(way.seconds) for way in ways[:2])
    print(f"ratio {greedy / span:.1f}")


if __name__ == "__main__":
    main()
