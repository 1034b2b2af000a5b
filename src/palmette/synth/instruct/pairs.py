"""Questions and answers that stand in a text, found by a writer, each answer with its place.

One request a passage asks for several pairs, as the synthesizer of Instruction Pre-Training does (Cheng et al., 2024).
With shots, earlier passages and their pairs stand before it, which is the paper's M-shot way. What the writer gives as
an answer is sought in the passage. It may differ in white space, and in quotation marks and a full stop around it.
Anything else is dropped and never adjusted.

Recall and refinement are those of MAmmoTH2 (Yue et al., 2024): only passages that ask something are read, only pairs
are taken that stand there, and the writer then puts each answer into a full reply. We recall by rule where the paper
trains a classifier, and a refined reply has to keep the words of the answer and to add no number.

Questions that speak of pictures or files are kept, unlike tasks without a text: the answer stands in the passage.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from palmette.corpus.words import words_of
from palmette.data.records import Document
from palmette.progress import progress
from palmette.synth.instruct.pair_text import (
    asks_something,
    fault_of_full_reply,
    fault_of_pair,
    pair_request,
    place_of,
    refine_request,
)
from palmette.synth.instruct.rouge import first_alike
from palmette.synth.instruct.settings import PairSettings
from palmette.synth.instruct.text import Turns, read_pairs
from palmette.synth.leaks import IsLeaked
from palmette.synth.work import Line, keep_line
from palmette.synth.writers import Request, Writer, Written, request_of, tokens_of, written_by

TEXTS = {
    "asks nothing": "the passage asks no question and sets no task",
    "failed": "the writer gave no text, or refused",
    "no pairs": "the text holds no question",
}
_GROUP = 8  # chains of passages that are asked about together, which a stop may lose

Chain = Sequence[Document]


def chains_of(passages: Sequence[Document], shots: int) -> list[Chain]:
    """Passages in order, cut into chains. Within one, earlier passages are shown before later ones.

    Args:
        passages: the passages.
        shots: the most passages that are shown.
    """
    return [passages[start : start + shots + 1] for start in range(0, len(passages), shots + 1)]


def pair_lines(
    passages: Sequence[Document],
    writer: Writer,
    settings: PairSettings,
    is_leaked: IsLeaked,
    work: Path,
    done: dict[str, Line],
) -> list[Line]:
    """The line of each passage: its questions with their answers, their places, and why they were dropped.

    Args:
        passages: the passages.
        writer: writes questions and answers.
        settings: how many are asked for.
        is_leaked: whether a text shares words with an evaluation set.
        work: the work file, which gets the new lines.
        done: the lines that it holds already. New ones are added.

    Raises:
        PalmetteError: the writer cannot be used, or the work file cannot be written.
    """
    chains = chains_of(passages, settings.shots)
    finder = _Finder(writer, settings, is_leaked)
    with progress(len(passages), "texts", "passages", done=sum(one.id in done for one in passages)) as bar:
        for start in range(0, len(chains), _GROUP):
            for depth in range(settings.shots + 1):
                deep = [chain for chain in chains[start : start + _GROUP] if len(chain) > depth]
                missing = [chain[: depth + 1] for chain in deep if chain[depth].id not in done]
                for line in finder.lines(missing, done):
                    keep_line(line, work, done)
                    bar.update()
    return [done[passage.id] for passage in passages]


def kept_pairs(line: Line) -> list[tuple[str, str]]:
    """The questions of a line that were kept, with their answers."""
    return [(pair["question"], pair["answer"]) for pair in line["pairs"] if not pair["reason"]]


def typical(passages: Sequence[Document], settings: PairSettings) -> Iterator[Turns]:
    """Requests as long as those that passages take, if nothing is dropped."""
    for chain in chains_of(passages, settings.shots):
        for depth, passage in enumerate(chain):
            if settings.recall and not asks_something(passage.text):
                continue
            shown = [(one.text, [("", "")] * settings.pairs) for one in chain[:depth]]
            yield pair_request(passage.text, settings.pairs, shown, recall=settings.recall)
            if settings.refine:
                yield from (refine_request(passage.text, "", "") for _ in range(settings.pairs))


class _Finder:
    """Finds questions and answers in passages."""

    def __init__(self, writer: Writer, settings: PairSettings, is_leaked: IsLeaked) -> None:
        self._writer, self._settings, self._is_leaked = writer, settings, is_leaked

    def lines(self, chains: Sequence[Chain], done: dict[str, Line]) -> Iterator[Line]:
        """The line of the last passage of each chain, whose earlier passages are done."""
        asking = [chain for chain in chains if not self._settings.recall or asks_something(chain[-1].text)]
        written = written_by(self._writer, [self._request(chain, done) for chain in asking])
        made = [self._line(chain[-1], one) for chain, one in zip(asking, written, strict=True)]
        if self._settings.refine:
            self._refine({chain[-1].id: chain[-1] for chain in asking}, made)
        asked = {line["id"] for line in made}
        for passage in (chain[-1] for chain in chains if chain[-1].id not in asked):
            nothing: dict[str, Any] = {"pairs": [], **tokens_of([])}
            yield {"id": passage.id, "reason": "asks nothing", "text": passage.text[:500], **nothing}
        yield from made

    def _request(self, chain: Chain, done: dict[str, Line]) -> Request:
        """A request about the last passage of a chain, after the earlier ones of which something was kept."""
        *earlier, passage = chain
        shown = [(one.text, pairs) for one in earlier if (pairs := kept_pairs(done[one.id]))]
        turns = pair_request(passage.text, self._settings.pairs, shown, recall=self._settings.recall)
        return Request(turns, zlib.crc32(passage.text.encode()))

    def _line(self, passage: Document, written: Written) -> Line:
        pairs = self._pairs(passage, written)
        failed = "failed" if written.finish not in ("end", "length") else "" if pairs else "no pairs"
        return {
            "id": passage.id,
            "reason": failed,
            "text": written.text[:500],
            "pairs": pairs,
            **tokens_of([written]),
        }

    def _pairs(self, passage: Document, written: Written) -> list[Line]:
        """The pairs that were written about a passage. Places count from the beginning of the document."""
        if written.finish not in ("end", "length"):
            return []
        found = list(read_pairs(written.said, "question", "answer"))
        begin = int(passage.id.rpartition("#")[2])
        pairs: list[Line] = []
        seen: list[tuple[str, list[str]]] = []
        for number, (question, answer) in enumerate(found, start=1):
            question, words = " ".join(question.split()), words_of(question)
            place = place_of(answer, passage.text)
            cut = written.finish == "length" and number == len(found)
            reason = "cut off" if cut else fault_of_pair(question, answer, passage.text, recall=self._settings.recall)
            if not reason and first_alike(words, seen, self._settings.max_alike) is not None:
                reason = "alike"
            if not reason and self._is_leaked(f"{question}\n{answer}"):
                reason = "in an evaluation set"
            if not reason:
                seen.append((question, words))
            pairs.append(
                {
                    "id": f"{passage.id}/{number}",
                    "question": question,
                    "answer": passage.text[slice(*place)] if place else answer,
                    "place": {"start": begin + place[0], "end": begin + place[1]} if place else None,
                    "reason": reason,
                }
            )
        return pairs

    def _refine(self, passages: dict[str, Document], lines: Sequence[Line]) -> None:
        """Ask for a full reply to each question that was kept. Adds it to the pair, or why the pair is dropped."""
        asked = [(line, pair) for line in lines for pair in line["pairs"] if not pair["reason"]]
        requests = [
            request_of(refine_request(passages[line["id"]].text, pair["question"], pair["answer"]))
            for line, pair in asked
        ]
        for (line, pair), written in zip(asked, written_by(self._writer, requests), strict=True):
            reply, passage = written.said.strip(), passages[line["id"]].text
            pair["reply"] = reply or written.text[:500]
            pair["reason"] = fault_of_full_reply(reply, written, pair["question"], pair["answer"], passage)
            if not pair["reason"] and self._is_leaked(reply):
                pair["reason"] = "reply: in an evaluation set"
            for key, number in tokens_of([written]).items():
                line[key] += number
