"""Queues of real tiny models by what their answers alone do not tell: hidden states, and what another run answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from palmette.data.records import Document, Question
from palmette.decode.span_decoder import SpanDecoder
from palmette.review import answers as module
from palmette.review.answers import Answers, OtherRun
from palmette.review.desk import Desk
from palmette.review.events import Verdict
from palmette.review.queue import Strategy
from palmette.review.showing import Choosing, Run
from palmette.review.store import Store
from palmette.tasks.extractive_qa import ExtractiveQa
from tests.support.models import tiny_llama
from tests.support.span_decoding import EVERYTHING, LEARNED, TEXT, brute_force, stock

DOCUMENT = Document("d", TEXT, tuple(Question(name, name) for name in LEARNED))
RUN = Run("runs/tiny", "1" * 64, "2" * 64)


@pytest.fixture(scope="module")
def other_model(tokenizer: Any) -> Any:
    """A tiny model that has learned nothing."""
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2)
    return model.requires_grad_(False)


def asked(folder: Path, answers: Answers, strategy: Strategy) -> list[tuple[str, float]]:
    """The questions in the order in which one person is asked them, each with its score."""
    with Store.open(folder / "review.db") as store:
        store.add_documents([DOCUMENT])
        store.freeze_audit([], 0.0)
        desk = Desk(store, [DOCUMENT], answers, RUN, Choosing(strategy, overlap_share=0.0, blind_share=0.0))
        answers.start()
        assert answers.wait()
        answers.check()
        order = []
        while (one := desk.ask("ann", "session")) is not None:
            assert one.shown.strategy == strategy
            assert len(one.shown.candidates) <= 5
            order.append((one.question.id, one.shown.score))
            desk.judge("ann", "session", one.key, Verdict("skip", None, 1.0))
        return order


def posterior(model: Any, task: ExtractiveQa, question: str) -> dict[str, float]:
    """The probability of "?" and of every span, each scored by itself with transformers' attention."""
    scores = brute_force(stock(model), task, TEXT, question, EVERYTHING.max_words)
    total = math.fsum(math.exp(value) for value in scores.values())
    return {text: math.exp(value) / total for text, value in scores.items()}


def test_a_queue_by_disagreement_ranks_by_the_divergence_of_both_posteriors(
    fitted_model: Any, other_model: Any, tokenizer: Any, qa_task: ExtractiveQa, tmp_path: Path
) -> None:
    expected = {}
    for name in LEARNED:
        one, other = (posterior(model, qa_task, name) for model in (fitted_model, other_model))
        assert set(one) == set(other)
        expected[name] = jensenshannon([one[text] for text in one], [other[text] for text in one]) ** 2
    mine, theirs = (SpanDecoder(model, tokenizer, effort=EVERYTHING) for model in (fitted_model, other_model))
    order = asked(tmp_path, Answers(mine, [DOCUMENT], in_full=True, also=[OtherRun(theirs)]), "disagreement")
    assert [name for name, _ in order] == sorted(expected, key=lambda name: -expected[name])
    assert dict(order) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert max(expected.values()) > 1.2 * min(expected.values())


def test_a_diverse_queue_takes_the_farthest_hidden_state_each_time(
    fitted_model: Any, stock_model: Any, tokenizer: Any, qa_task: ExtractiveQa, tmp_path: Path
) -> None:
    """Against the greedy rule in plain loops, on transformers' hidden states. Half precision keeps three digits."""
    states = {}
    for question in DOCUMENT.questions:
        prompt = qa_task.prompt_tokens(DOCUMENT, question) + list(qa_task.template.encoder.content('{"answer": "'))
        with torch.no_grad():
            row = stock_model(input_ids=torch.tensor([prompt]), output_hidden_states=True)
        states[question.id] = row.hidden_states[-1][0, -1].tolist()
    taken = [[math.fsum(column) / len(states) for column in zip(*states.values(), strict=True)]]  # the mean
    expected = []
    for _ in LEARNED:
        left = {name: min(math.dist(state, one) for one in taken) for name, state in states.items()}
        best = max((name for name in left if name not in dict(expected)), key=lambda name: left[name])
        expected.append((best, left[best]))
        taken = taken[1:] if len(expected) == 1 else taken
        taken.append(states[best])
    answers = Answers(SpanDecoder(fitted_model, tokenizer, effort=EVERYTHING), [DOCUMENT], in_full=True)
    order = asked(tmp_path, answers, "diverse")
    kept = answers.hidden()
    assert {(one.dtype.name, one.shape) for one in kept.values()} == {("float16", np.shape(states["Who?"]))}
    assert [name for name, _ in order[1:]] == [name for name, _ in expected[1:]]
    assert [score for _, score in order[1:]] == pytest.approx([score for _, score in expected[1:]], rel=5e-3)


def test_so_many_hidden_states_are_kept_and_no_more(
    fitted_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_HIDDEN", 2)
    first = Answers(SpanDecoder(fitted_model, tokenizer, effort=EVERYTHING), [DOCUMENT], in_full=True)
    answers = first.of(SpanDecoder(fitted_model, tokenizer, effort=EVERYTHING))  # as for a newer run
    answers.start()
    assert answers.wait()
    assert list(answers.hidden()) == list(LEARNED)[:2]
    assert set(answers.found()) == set(LEARNED)
