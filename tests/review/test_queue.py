"""Queues: what is asked first, by whom, and what the draws say about the questions that nobody was asked."""

from __future__ import annotations

import itertools
import math
import random
import threading
from collections import Counter
from datetime import timedelta

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import jensenshannon

from palmette.decode.prediction import Prediction
from palmette.errors import DataError
from palmette.review import queue as module
from palmette.review.acquisition import closeness, disagreement, entropy, k_centres
from palmette.review.queue import Item, LiveQueue, Place, Queue, make_queue
from palmette.review.sampling import draw_audit, unbiased_mean
from palmette.review.state import State, fold
from tests.support.reviewing import START, event, prediction, shown, verdict


def items(number: int, documents: int = 1) -> list[Item]:
    """Questions q0, q1, ... in turn about some documents, ever less uncertain."""
    return [
        Item(f"q{n}", f"d{n % documents}", (prediction(0.5 + 0.49 * n / number, ("a", 0.5 - 0.49 * n / number)),))
        for n in range(number)
    ]


def order(queue: Queue) -> list[str]:
    return [place.question for place in queue.places]


def test_entropy_is_scipys() -> None:
    """What the candidates leave, 0.1, is one more outcome. Equal strings are one."""
    one = prediction(0.2, ("a", 0.4), ("b", 0.2), ("a", 0.1))
    assert entropy(one) == pytest.approx(stats.entropy([0.2, 0.5, 0.2, 0.1]))
    assert closeness(one) == pytest.approx(1 - (0.5 - 0.2))
    assert entropy(prediction(1.0)) == 0.0


def test_disagreement_is_what_the_runs_do_not_share() -> None:
    """Two sure runs that contradict each other: ln 2. Two unsure runs that agree: 0."""
    sure = [prediction(0.0, ("a", 1.0)), prediction(1.0)]
    unsure = [prediction(0.5, ("a", 0.5))] * 3
    assert disagreement(sure) == pytest.approx(math.log(2))
    assert disagreement(unsure) == pytest.approx(0.0, abs=1e-12)
    with pytest.raises(DataError, match="only one run cannot disagree"):
        disagreement(sure[:1])


def test_disagreement_is_scipys_jensen_shannon_divergence() -> None:
    """Of each run's 1, 0.1 and 0.2 are left to spans that neither names. scipy gives the root of the divergence."""
    one = prediction(0.2, ("a", 0.4), ("b", 0.3))
    other = prediction(0.5, ("c", 0.2), ("a", 0.1))
    expected = jensenshannon([0.2, 0.4, 0.3, 0.0, 0.1], [0.5, 0.1, 0.0, 0.2, 0.2]) ** 2
    assert disagreement([one, other]) == pytest.approx(expected)


def test_k_centres_of_four_points_by_hand() -> None:
    """The mean of 0, 1, 4 and 10 is 3.75, and 10 is farthest from it. Then 0 is 10 away, then 4 is 4 away, 1 is 1."""
    states_ND = np.array([[0.0], [1.0], [4.0], [10.0]])
    assert k_centres(states_ND, 9) == ([3, 0, 2, 1], [6.25, 10.0, 4.0, 1.0])
    near_KD = np.array([[10.0]] * 300 + [[0.5]])  # more than are compared at a time
    assert k_centres(states_ND, 2, near_KD) == ([2, 0], [3.5, 0.5])
    assert k_centres(np.zeros((3, 2)), 3) == ([0, 1, 2], [0.0, 0.0, 0.0])


def spread(*places: float | None) -> list[Item]:
    """Questions q0, q1, ... whose hidden states are these places on a line."""
    return [
        Item(f"q{n}", "d", (prediction(1.0),), None if place is None else np.array([place], dtype=np.float16))
        for n, place in enumerate(places)
    ]


def test_a_diverse_queue_begins_far_from_what_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: with 10 judged, 0 is 10 away, then 4 is 4 away, then 1. Questions without a state come last."""
    given = spread(0.0, 1.0, 4.0, 10.0, None)
    queue = make_queue(given, "diverse", judged=["q3", "q99"], overlap_share=0.0)
    assert order(queue)[:3] == ["q0", "q2", "q1"]
    assert [one.score for one in queue.places[:3]] == [10.0, 4.0, 1.0]
    assert set(order(queue)[3:]) == {"q3", "q4"}
    assert [one.strategy for one in queue.places] == ["diverse"] * 3 + ["random"] * 2
    monkeypatch.setattr(module, "MOST_CENTRES", 1)
    seen = {tuple(order(make_queue(given, "diverse", judged=["q3"], seed=seed))) for seed in range(20)}
    assert {names[0] for names in seen} == {"q0"}
    assert len(seen) > 5
    assert all(sorted(names) == ["q0", "q1", "q2", "q3", "q4"] for names in seen)


def test_k_centres_cover_within_twice_the_best_that_is_possible() -> None:
    """Gonzalez (1985): checked against every choice of three from nine."""
    generator = np.random.default_rng(0)
    for _ in range(20):
        states_ND = generator.normal(size=(9, 2))
        chosen, distances = k_centres(states_ND, 3)
        between = np.linalg.norm(states_ND[:, None] - states_ND[None], axis=2)
        best = min(between[list(three)].min(0).max() for three in itertools.combinations(range(9), 3))
        assert between[chosen].min(0).max() <= 2 * best + 1e-12
        assert len(set(chosen)) == 3
        assert distances[1] >= distances[2]


def test_ranking_strategies_ask_the_most_promising_question_first() -> None:
    given = items(6)
    for strategy, place in (("uncertain", entropy), ("margin", closeness)):
        queue = make_queue(given, strategy, overlap_share=0.0)  # type: ignore[arg-type]
        assert order(queue) == [f"q{n}" for n in range(6)]
        assert queue.places[0].score == pytest.approx(place(given[0].predictions[0]))
        assert {one.sampling_probability for one in queue.places} == {None}
    split = [Item(f"q{n}", "d", (prediction(1 - n / 9), prediction(1.0))) for n in range(3)]
    assert order(make_queue(split, "disagreement")) == ["q2", "q1", "q0"]
    audited = make_queue(spread(0.0, 0.2, 5.0), "diverse", audit=["q0"], audit_share=0.0)
    assert order(audited)[-1] == "q0"
    assert set(order(audited)[:2]) == {"q1", "q2"}


def test_a_mixed_queue_draws_as_it_says() -> None:
    """Over many seeds each question is first as often as its stated probability says (binomial, p > 1e-6)."""
    given, rounds = items(5), 4000
    first: Counter[str] = Counter()
    stated: dict[str, float] = {}
    for seed in range(rounds):
        place = make_queue(given, "mixed", seed=seed).places[0]
        first[place.question] += 1
        assert place.sampling_probability is not None
        stated[place.question] = place.sampling_probability
    assert stated == pytest.approx({"q0": 0.6 + 0.4 / 5, **{f"q{n}": 0.4 / 5 for n in range(1, 5)}})
    for question, probability in stated.items():
        assert stats.binomtest(first[question], rounds, probability).pvalue > 1e-6, question


def test_a_mixed_queue_has_each_question_once_and_spreads_over_documents() -> None:
    given = [Item(f"q{n}", "hard" if n < 20 else f"d{n % 4}", one.predictions) for n, one in enumerate(items(40))]
    for seed in range(20):
        queue = make_queue(given, "mixed", seed=seed)
        assert sorted(order(queue)) == sorted(one.question for one in given)
        uncertain = [place.question for place in queue.places if place.strategy == "uncertain"]
        assert sum(int(name[1:]) < 20 for name in uncertain[:10]) <= 2
        kinds = Counter(place.strategy for place in queue.places)
        assert set(kinds) == {"uncertain", "random", "overlap"}
        assert all((place.raters == 2) is (place.strategy == "overlap") for place in queue.places)


def test_a_long_mixed_queue_equals_the_plain_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without chance it is: by rounds of two of a document, and by falling entropy within a round."""
    monkeypatch.setattr(module, "RANDOM_SHARE", 0.0)
    generator = random.Random(5)
    given = [
        Item(f"q{n}", f"d{generator.randrange(7)}", (prediction(share, ("a", 1 - share)),))
        for n, share in enumerate(generator.random() for _ in range(300))
    ]
    left, num, expected = list(given), Counter[str](), []
    while left:
        best = min(left, key=lambda one: (num[one.document_sha256] // 2, -entropy(one.predictions[0])))
        num[best.document_sha256] += 1
        left.remove(best)
        expected.append(best.question)
    assert order(make_queue(given, "mixed", overlap_share=0.0)) == expected


def test_the_estimate_from_a_mixed_queue_is_unbiased_where_the_plain_mean_is_not() -> None:
    """Answers to uncertain questions are wrong, all others right: 10 of 40 wrong, so the true mean is 0.75.

    Over 3,000 queues of which 12 questions are judged, the estimate's mean is within four standard errors of it.
    """
    given = items(40)
    good = {one.question: float(n >= 10) for n, one in enumerate(given)}
    estimates, plain = [], []
    for seed in range(3000):
        places = make_queue(given, "mixed", seed=seed).places[:12]
        values = [good[place.question] for place in places]
        probabilities = [place.sampling_probability or 0.0 for place in places]
        estimates.append(unbiased_mean(values, probabilities, pool=40))
        plain.append(sum(values) / 12)
    error = np.std(estimates) / math.sqrt(len(estimates))
    assert np.mean(estimates) == pytest.approx(0.75, abs=4 * error)
    assert np.mean(plain) < 0.6
    assert error < 0.01


def test_the_estimate_from_all_questions_is_their_mean() -> None:
    assert unbiased_mean([1.0, 0.0, 0.5], [0.9, 0.1, 1.0], pool=3) == pytest.approx(0.5)


def test_audit_questions_come_between_the_others_and_keep_their_probability() -> None:
    queue = make_queue(items(100), audit=[f"q{n}" for n in range(20)], audit_probability=0.2)
    places = [number for number, place in enumerate(queue.places) if place.strategy == "audit"]
    assert {queue.places[number].question for number in places} == {f"q{n}" for n in range(20)}
    assert {queue.places[number].sampling_probability for number in places} == {0.2}
    assert min(places) < 20
    assert max(places) > 40
    alone = make_queue(items(3), audit=["q0", "q1", "q2"], audit_probability=0.5)
    assert sorted(order(alone)) == ["q0", "q1", "q2"]


def test_the_audit_set_is_a_random_sample_of_whole_documents() -> None:
    questions = {f"q{n}": f"d{n % 10}" for n in range(60)}
    drawn: Counter[str] = Counter()
    for seed in range(2000):
        chosen, probability = draw_audit(questions, seed, share=0.3)
        assert probability == 0.3
        documents = {questions[one] for one in chosen}
        assert len(documents) == 3
        assert chosen == tuple(one for one in questions if questions[one] in documents)
        drawn.update(documents)
    for count in drawn.values():
        assert stats.binomtest(count, 2000, 0.3).pvalue > 1e-6
    assert len(draw_audit(questions, 0, share=1.0)[0]) == 30, "half of the documents at most"
    assert len(draw_audit(questions, 0, share=0.5, most=12)[0]) == 12
    assert draw_audit({"a": "d1", "b": "d2", "c": "d3"}, 0) == ((), 0.0), "too few documents"
    assert draw_audit(questions, 0, share=0.0) == ((), 0.0)


QUEUE = Queue(
    (
        Place("both", "overlap", 0.0, 0.5, raters=2),
        Place("one", "random", 0.0, 0.5),
        Place("two", "random", 0.0, 0.5),
    ),
    blind_share=0.0,
)


def asked(state: State, name: str, after: float = 1.0) -> str | None:
    found = QUEUE.next_for(name, state, START + timedelta(seconds=after))
    return found.place.question if found else None


def test_people_get_what_they_have_not_judged_and_share_the_overlap() -> None:
    def state(*judged: tuple[str, str, str]) -> State:
        return fold(
            event("verdict", name, question, id=n, verdict=verdict(kind))
            for n, (name, question, kind) in enumerate(judged, 1)
        )

    assert asked(state(), "ann") == "both"
    assert asked(state(("ann", "both", "reject")), "ann") == "one"
    assert asked(state(("ann", "both", "reject")), "bob") == "both"
    two = (("ann", "both", "reject"), ("bob", "both", "reject"))
    assert asked(state(*two), "eve") == "one", "two are enough"
    assert asked(state(*two, ("ann", "one", "reject")), "bob") == "two"
    assert asked(state(("ann", "both", "skip")), "ann") == "one", "what was skipped does not come back"
    skipped = state(*two, ("ann", "one", "skip"))
    assert asked(skipped, "bob") == "one", "and others get it"
    everything = state(*two, ("ann", "one", "reject"), ("bob", "two", "reject"))
    assert asked(everything, "ann") is None
    assert QUEUE.num_left("ann", everything) == 0
    assert QUEUE.num_left("eve", state(*two)) == 2
    decided = fold([event("adjudicated", "eve", "both", id=1, verdict=verdict("reject"))])
    assert asked(decided, "ann") == "one"


def test_what_somebody_looks_at_is_not_given_to_others_for_a_while() -> None:
    events = [event("shown", "ann", "both", id=1, shown=shown()), event("shown", "bob", "both", id=2, shown=shown())]
    events.append(event("shown", "ann", "one", after=5, id=3, shown=shown()))
    state = fold(events)
    assert asked(state, "eve", after=6) == "two"
    assert asked(state, "ann", after=6) == "both", "a page that is loaded again shows the same question"
    assert asked(state, "eve", after=module.RESERVED + 4) == "both"
    undone = fold([*events, event("verdict", "ann", "one", after=7, id=4, verdict=verdict("reject"))])
    assert asked(undone, "eve", after=10_000) == "both"


def test_a_tenth_is_blind_for_each_person_and_stays_so() -> None:
    queue = make_queue(items(3000), "random")
    blind = {name: [queue.is_blind(name, one) for one in order(queue)] for name in ("ann", "bob")}
    for drawn in blind.values():
        assert stats.binomtest(sum(drawn), 3000, 0.1).pvalue > 1e-6
    assert blind["ann"] != blind["bob"]
    assert [queue.is_blind("ann", one) for one in order(queue)] == blind["ann"]
    assert not any(QUEUE.is_blind("ann", f"q{n}") for n in range(100))


def test_a_queue_is_replaced_while_others_read_it() -> None:
    """Readers see the old queue or the new one, whole, and never wait."""
    old, new = make_queue(items(50), "random", run="old"), make_queue(items(80), "random", run="new")
    live, seen, stop = LiveQueue(old), set(), threading.Event()

    def read() -> None:
        while not stop.is_set():
            queue = live.current
            seen.add((queue.run, len(queue.places)))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(200):
        live.replace(new if number % 2 else old)
    stop.set()
    for reader in readers:
        reader.join()
    assert seen <= {("old", 50), ("new", 80)}
    assert live.current is new


def test_what_a_strategy_lacks_is_said() -> None:
    greedy = [Item("q", "d", (Prediction("a"),))]
    with pytest.raises(DataError, match="without probabilities"):
        make_queue(greedy, "mixed")
    assert order(make_queue(greedy)) == ["q"], "the default needs nothing"
    with pytest.raises(DataError, match="needs a hidden state"):
        make_queue(items(2), "diverse")
    with pytest.raises(DataError, match=r"'hardest' is no strategy of a queue. The strategies are mixed"):
        make_queue(items(2), "hardest")  # type: ignore[arg-type]
    assert make_queue([]).places == ()
