"""How many known answers are no spans of the span decoder, why, and what a span trie costs, by where spans may end.

Three sets of spans are compared: those that end where runs of letters and digits end, those that the decoder allows by
default, and those that it allows with `--inside-words`. All have up to 30 words. No weights are needed.

    python benchmarks/reachability.py xquad.de.json tests/decode/data/korean.jsonl
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import regex

import palmette
from palmette import Document
from palmette.config.recipes import Recipe
from palmette.decode.effort import Effort
from palmette.decode.spans import cut_windows, unreachable
from palmette.decode.trie import span_trie
from palmette.inference.task import recipe_task
from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.tokenizer import load_tokenizer
from palmette.tasks.extractive_qa import ExtractiveQa

MOST_WORDS = Effort().max_words
_RUN = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}]\p{M}*|[\w\p{M}]+|(?!\s)\X")

Fault = Callable[[str, str], str | None]


def beside_runs(text: str, answer: str) -> str | None:
    """Why an answer is no span of up to 30 runs of letters and digits. None if it is one.

    >>> beside_runs("in the 1990s", "1990"), beside_runs("in the 1990s", "1990s")
    ('ends inside a word', None)
    """
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    for index, run in enumerate(_RUN.finditer(text)):
        starts[run.start()], ends[run.end()] = index, index
    first: str | None = None
    at = text.find(answer)
    while at >= 0:
        begin, end = starts.get(at), ends.get(at + len(answer))
        if begin is None:
            reason = "starts inside a word"
        elif end is None:
            reason = "ends inside a word"
        elif end - begin >= MOST_WORDS:
            reason = f"has more than {MOST_WORDS} words"
        else:
            return None
        first = first or reason
        at = text.find(answer, at + 1)
    return first


def by_default(text: str, answer: str) -> str | None:
    """Why an answer is none of the decoder's spans. None if it is one."""
    return shortened(unreachable(text, answer, MOST_WORDS))


def inside_words(text: str, answer: str) -> str | None:
    """The same with `--inside-words`."""
    return shortened(unreachable(text, answer, MOST_WORDS, inside_words=True))


def shortened(reason: str | None) -> str | None:
    """A reason without the number of words of the answer."""
    return f"has more than {MOST_WORDS} words" if reason and reason.startswith("has ") and "more" in reason else reason


def count(documents: Sequence[Document], fault: Fault) -> tuple[int, Counter[str]]:
    """The number of questions that have an answer, and why none of their answers can be given: that of the first."""
    asked, reasons = 0, Counter[str]()
    for document in documents:
        for question in document.questions:
            if question.answers:
                asked += 1
                found = [fault(document.text, answer.text) for answer in question.answers]
                if None not in found:
                    reasons[str(found[0])] += 1
    return asked, reasons


def costs(documents: Sequence[Document], task: ExtractiveQa, *, inside: bool) -> tuple[int, float]:
    """The nodes of the tries of all documents, and the seconds of processor time that they took."""
    encoder, nodes = task.template.encoder, 0
    started = time.process_time()
    for document in documents:
        windows = cut_windows(
            document.text,
            lambda texts: [len(ids) for ids in encoder.contents(texts)],
            max_words=MOST_WORDS,
            window_tokens=Effort().window_tokens,
            overlap_tokens=Effort().overlap_tokens,
            inside_words=inside,
        )
        nodes += sum(len(span_trie(task, document.text, window, MOST_WORDS)) for window in windows)
    return nodes, time.process_time() - started


def lines(name: str, documents: Sequence[Document], task: ExtractiveQa, paragraphs: int) -> Iterator[str]:
    """The lines of the table for one file."""
    some = documents[:paragraphs]
    for kind, fault, inside in (
        ("runs of letters and digits", beside_runs, None),
        ("as the decoder allows", by_default, False),
        ("with --inside-words", inside_words, True),
    ):
        asked, reasons = count(documents, fault)
        why = ", ".join(f"{number} {reason}" for reason, number in reasons.most_common()) or "-"
        cost = "- | -"
        if inside is not None:
            nodes, seconds = costs(some, task, inside=inside)
            cost = f"{nodes / len(some):,.0f} | {seconds / len(some):.3f}"
        yield f"| {name} | {kind} | {asked} | {reasons.total()} | {why} | {cost} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="Files of questions with known answers.")
    parser.add_argument("--paragraphs", type=int, default=60, help="Build the tries of so many documents of a file.")
    options = parser.parse_args()
    task = recipe_task(Recipe(output=""), load_tokenizer(DEFAULT_MODEL))
    print("| data | spans end beside | questions | unreachable | first answer | nodes a document | s a document |")
    print("|---|---|---|---|---|---|---|")
    for name in options.data:
        documents = palmette.read_data(name).documents
        for line in lines(Path(name).name, documents, task, options.paragraphs):
            print(line, flush=True)


if __name__ == "__main__":
    main()
