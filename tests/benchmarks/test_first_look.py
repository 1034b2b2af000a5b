"""The benchmark of first looks: its documents, and its rule against that of open documents."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch

from palmette.data.records import Answer, Document, Question
from palmette.decode.effort import Effort
from palmette.decode.long_document import FirstLook, LongDocument
from palmette.decode.span_decoder import SpanDecoder
from palmette.decode.window_prior import WindowPrior
from tests.support.models import tiny_llama
from tests.support.scripts import script


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return script("benchmarks/first_look.py")


def paragraphs() -> list[Document]:
    """Two articles of three paragraphs, each with a question that it answers and one that it does not."""
    return [
        Document(f"{title}{n}", f"In {title}{n} stands granite{n}.", (
            Question(f"{title}{n}-a", "What?", (Answer(f"granite{n}", 13),)), Question(f"{title}{n}-b", "Who?"),
        ), title)
        for title in "AB"
        for n in range(3)
    ]  # fmt: skip


@pytest.mark.parametrize(("characters", "titles"), [(None, ["A", "B"]), (50, ["joined-2", "joined-5"]), (10**6, [])])
def test_paragraphs_are_joined_and_answers_keep_their_place(
    bench: ModuleType, characters: int | None, titles: list[str]
) -> None:
    found = list(bench.joined(paragraphs(), characters))
    assert [document.id for document in found] == titles
    for document in found:
        assert len(document.questions) == 3, "those with an answer"
        for question in document.questions:
            for answer in question.answers:
                assert document.text[answer.start :].startswith(answer.text)


def test_scores_that_are_known_give_what_an_open_document_gives(bench: ModuleType, tokenizer: Any) -> None:
    """In float64, of which both ways round sums otherwise. The looks differ in what they read."""
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2)
    effort = Effort(3, window_tokens=60, overlap_tokens=20, tokens_per_batch=800, tokens_per_pass=8)
    decoder = SpanDecoder(model, tokenizer, effort=effort)
    document = Document("d", " ".join(f"The ferry {name} leaves at {i}." for i, name in enumerate("abcdefgh")), ())
    asked = [Question("0", "When does ferry g leave?")]
    known = bench.scores_of_all(decoder, document, asked)
    window_prior = WindowPrior(document.text, decoder.windows(document.text))
    read = set()
    for look in (FirstLook(0, 1, 1, 0.0), FirstLook(0, 4, 2, 0.3), FirstLook(0, 4, 2, 0.0), None):
        got = bench.looked(asked[0], known["0"], look, window_prior, decoder.decision)
        opened = LongDocument(decoder, document, first_look=look)
        want = decoder.decision.decide(opened.posteriors(asked)["0"])
        assert (got.text, got.num_read, got.num_windows) == (want.text, want.num_read, opened.num_windows)
        assert got.no_answer_probability == pytest.approx(want.no_answer_probability, rel=1e-5)
        assert got.unread == pytest.approx(want.unread, rel=1e-5)
        read.add(got.num_read)
    assert len(read) > 2
