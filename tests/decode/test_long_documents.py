"""Long documents are answered and refused like short ones: simulated documents whose answers are known, and
overlapping windows.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from palmette.decode.posterior import Decision, SpanPosterior, WindowScores
from palmette.decode.search import Search
from palmette.decode.trie import SpanTrie

NUM_DOCUMENTS, SPREAD = 4000, 3.0


def simulate(num_windows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents read by a perfectly calibrated reader of one window: which hold the answer, P(no answer), which are
    answered.

    Half of the documents hold the answer, in one window that is drawn evenly. The reader sees a log likelihood ratio of
    "the answer stands here" against "it does not", normal with mean +s^2/2 where it does and -s^2/2 where it does not,
    variance s^2. Under even prior odds that ratio is the posterior odds of a window alone.
    """
    draw = np.random.default_rng(num_windows)
    holds = draw.random(NUM_DOCUMENTS) < 0.5
    place = np.where(holds, draw.integers(0, num_windows, NUM_DOCUMENTS), -1)
    refusal, answered = np.empty(NUM_DOCUMENTS), np.empty(NUM_DOCUMENTS, bool)
    for index in range(NUM_DOCUMENTS):
        log_odds = draw.normal(-(SPREAD**2) / 2, SPREAD, num_windows)
        if holds[index]:
            log_odds[place[index]] += SPREAD**2
        windows = [
            WindowScores({f"{i}": (i, float(value))}, -math.inf, -math.inf, 1) for i, value in enumerate(log_odds)
        ]
        found = Decision().decide(SpanPosterior.merge(windows))
        assert found.no_answer_probability is not None
        refusal[index], answered[index] = found.no_answer_probability, bool(found.text)
    return holds, refusal, answered


@pytest.mark.parametrize("num_windows", [1, 5, 10, 40])
def test_a_calibrated_reader_of_windows_makes_a_calibrated_reader_of_documents(num_windows: int) -> None:
    """In ten equal groups by P(no answer), its mean is the share of documents without an answer, but for chance.

    The share of 400 documents has a standard deviation of 0.025 at most, so the mean deviation of ten groups is about
    0.02 at most. Had the odds been added up, P(no answer) would be far too low for many windows: by 0.26 at 5 and 0.47
    at 40.
    """
    holds, refusal, answered = simulate(num_windows)
    groups = np.array_split(np.argsort(refusal), 10)
    error = np.mean([abs(refusal[group].mean() - (~holds[group]).mean()) for group in groups])
    assert error < 0.025
    assert refusal.mean() == pytest.approx((~holds).mean(), abs=0.02)
    assert (~answered[~holds]).mean() > 0.6, "documents without an answer can be refused, however long they are"
    assert answered[holds].mean() > 0.3, "and the others are not all refused"


def simulate_a_first_look(num_windows: int, num_read: int) -> dict[str, np.ndarray]:
    """As `simulate`, with a ranking, of which the first `num_read` windows are read: what is said, and what is true.

    The window of the answer is drawn from a prior that is known for each document, the softmax of normal scores. The
    ranking knows the prior, and the reader knows nothing but the windows that it reads.
    """
    draw = np.random.default_rng(num_windows * 100 + num_read)
    told: dict[str, list[float]] = {name: [] for name in ("none", "unread", "read", "is none", "is unread", "is read")}
    for _ in range(NUM_DOCUMENTS):
        prior = np.exp(draw.normal(0.0, 2.0, num_windows))
        prior /= prior.sum()
        place = draw.choice(num_windows, p=prior) if draw.random() < 0.5 else -1
        log_odds = draw.normal(-(SPREAD**2) / 2, SPREAD, num_windows)
        if place >= 0:
            log_odds[place] += SPREAD**2
        read = np.argsort(-prior)[:num_read]
        windows = [WindowScores({f"{i}": (int(i), float(log_odds[i]))}, -math.inf, -math.inf, 1) for i in read]
        found = Decision().decide(SpanPosterior.merge(windows, prior[read].tolist(), num_windows))
        assert found.no_answer_probability is not None
        assert found.num_read == num_read
        told["none"].append(found.no_answer_probability)
        told["unread"].append(found.unread)
        told["read"].append(1.0 - found.no_answer_probability - found.unread)
        told["is none"].append(place < 0)
        told["is unread"].append(place >= 0 and place not in read)
        told["is read"].append(place in read)
    return {name: np.array(values, dtype=float) for name, values in told.items()}


@pytest.mark.parametrize(("num_windows", "num_read"), [(8, 2), (40, 1), (40, 4), (40, 40)])
def test_a_first_look_is_calibrated_about_what_it_did_not_read(num_windows: int, num_read: int) -> None:
    """In ten equal groups by each probability, its mean is the share of documents where it is true, but for chance.

    The bound is that of the test above. Were the unread windows left out, P(no answer) would be too high by about their
    share of the prior, which is 0.15 or more where fewer than half of the windows are read. Had they been counted as
    windows that say nothing against no answer, as a mean over all windows does, their prior would be lost too.
    """
    told = simulate_a_first_look(num_windows, num_read)
    for name in ("none", "unread", "read"):
        groups = np.array_split(np.argsort(told[name]), 10)
        error = np.mean([abs(told[name][group].mean() - told[f"is {name}"][group].mean()) for group in groups])
        assert error < 0.025, name
    if num_read < num_windows:
        assert told["is unread"].mean() > 0.05, "the interesting case occurs"
    else:
        assert told["unread"].max() == 0.0


def test_what_is_not_read_takes_the_proof_away_and_keeps_its_prior() -> None:
    """Two of four windows are read, with priors 0.5 and 0.3 and odds 8 and 1: 4 + 0.3 read, and 0.2 not read."""
    scores = [
        WindowScores({name: (at, math.log(odds))}, -math.inf, -math.inf, 2)
        for name, at, odds in (("a", 0, 8), ("b", 9, 1))
    ]
    found = Decision().decide(SpanPosterior.merge(scores, [0.5, 0.3], 4))
    assert found.text == "a"
    assert found.probability == pytest.approx(4 / 5.5)
    assert found.no_answer_probability == pytest.approx(1 / 5.5)
    assert found.unread == pytest.approx(0.2 / 5.5)
    assert (found.certified, found.num_read, found.num_windows) == (False, 2, 4)
    whole = Decision().decide(SpanPosterior.merge(scores, [0.6, 0.4]))
    assert (whole.certified, whole.unread, whole.num_read) == (True, 0.0, 2)


def test_a_temperature_leaves_the_prior_of_what_was_not_read() -> None:
    """Where nothing that was read speaks for an answer, P(no answer) is 1 / (1 + 0.25), at any temperature."""
    scores = [WindowScores({"a": (0, -200.0)}, -math.inf, -math.inf, 1)]
    for temperature in (0.5, 1.0, 3.0):
        found = Decision(temperature=temperature).decide(SpanPosterior.merge(scores, [0.75], 2))
        assert found.no_answer_probability == pytest.approx(0.8)
        assert found.unread == pytest.approx(0.2)


def search_of(strings: dict[str, float], foreign: dict[str, float], *, unscored: tuple[str, ...] = ()) -> Search:
    """A search whose strings of one token each have these probabilities, "?" the rest; some are not looked into."""
    trie = SpanTrie()
    trie.add((0,), "?", -1)
    for token, (text, owned) in enumerate([*((s, True) for s in strings), *((s, False) for s in foreign)], 1):
        trie.add((token,), text, token, foreign=not owned)
    search = Search(trie)
    probability = {**strings, **foreign}
    probability["?"] = 1.0 - math.fsum(probability.values())
    search.absorb(
        0,
        {token: math.log(probability[trie.strings[trie.end[node]]]) for token, node in trie.children[0].items()},
        -50.0,
    )
    for node in range(1, len(trie)):
        if trie.strings[trie.end[node]] not in unscored:
            search.absorb(node, {}, 0.0)
    return search


def test_the_neighbour_that_sees_the_answer_does_not_inflate_its_own_spans() -> None:
    """Both windows give A 0.90 and "?" 0.02; the second, which does not own A, gives B, a tail of A, 0.05 of what is
    left.

    In the second window "no answer of my own" has 0.92, so B has odds 0.05 / 0.92 there, not 0.05 / 0.02. P(A) = (0.90
    / 0.10) / 2 against 1 for no answer. (Had A not counted, B would have had odds 2.5 in its window.)
    """
    first = search_of({"A": 0.90}, {"B": 0.05}).scores()
    second = search_of({"B": 0.05}, {"A": 0.90}).scores()
    found = Decision().decide(SpanPosterior.merge([first, second]))
    odds = {"A": 0.90 / 0.10 / 2, "B": 0.05 / 0.95 / 2}
    total = 1.0 + sum(odds.values())
    assert found.text == "A"
    assert found.certified
    assert found.probability == pytest.approx(odds["A"] / total)
    assert found.no_answer_probability == pytest.approx(1 / total)
    assert {one.text: one.probability for one in found.candidates}["B"] == pytest.approx(odds["B"] / total)


def test_a_neighbours_span_that_was_not_looked_into_takes_the_proof_away() -> None:
    """B has odds 0.5 / 0.1 if A is nothing, but A may hold 0.4 and then they are 1: answered, not proved.

    With A scored, refused.
    """
    unknown = search_of({"B": 0.5}, {"A": 0.4}, unscored=("A",))
    assert math.exp(unknown.slack) == pytest.approx(0.5 / 0.1)
    found = Decision().decide(SpanPosterior.merge([unknown.scores()]))
    assert (found.text, found.certified) == ("B", False)
    known = search_of({"B": 0.45}, {"A": 0.45})
    assert known.slack == 0.0
    found = Decision().decide(SpanPosterior.merge([known.scores()]))
    assert (found.refusal, found.certified) == ("absent", True)
    assert found.no_answer_probability == pytest.approx(0.55)
