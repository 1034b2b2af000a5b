"""What the benchmark of preferences trains on: groups of answers, their advantages, and the corpus."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace

import pytest

from palmette.data.source import read_source
from tests.support.benchmarks import document, sentence, words


def test_groups_by_hand(bench: SimpleNamespace) -> None:
    """Of words instead of tokens: 30 are wanted.

    The gold sentence comes first, then the nearest; others that hold the answer come last.
    """
    gold, again = sentence(27, "Granite"), sentence(29, "Granite")
    near, far, farther = sentence(33, "Near"), sentence(25, "Far"), sentence(12, "Farther")
    some = document("a", farther, gold, near, again, far, asked=("Granite",))
    (pair,) = bench.preference_data.make_groups([some], 2, words)
    assert pair.completions == (gold, near)
    assert pair.rewards == (1.0, 0.0)
    assert pair.prompt.startswith(some.text)
    assert pair.prompt.endswith("What of Granite?")
    (five,) = bench.preference_data.make_groups([some], 5, words)
    assert five.completions == (gold, near, far, farther, again)
    assert five.rewards == (1.0, 0.0, 0.0, 0.0, 1.0)


def test_the_question_is_that_whose_sentence_has_the_best_length(bench: SimpleNamespace) -> None:
    short, good = sentence(5, "Granite"), sentence(31, "Basalt")
    (pair,) = bench.preference_data.make_groups([document("a", short, good, asked=("Granite", "Basalt"))], 2, words)
    assert pair.completions == (good, short)


def test_documents_that_make_no_group(bench: SimpleNamespace) -> None:
    """Too few different sentences; no answer; one over two sentences; the answer in every sentence."""
    first, second = sentence(5), "The tower is granite."
    none = [
        document("few", second, second),
        document("unasked", first, second, asked=()),
        document("across", first, second, asked=("on. The",)),
        document("everywhere", "It is granite.", second),
    ]
    assert bench.preference_data.make_groups(none, 2, words) == []
    assert len(bench.preference_data.make_groups([*none, document("good", first, second)], 2, words)) == 1


def test_groups_survive_a_file(bench: SimpleNamespace, tmp_path: Path) -> None:
    data = bench.preference_data
    groups = data.make_groups([document("a", sentence(4), "The tower is granite.")], 2, words)
    scored = data.with_old(groups, {("a", "0"): [-0.1, -1 / 3], ("a", "1"): [-2.0]})
    for some in (groups, scored):
        data.write_groups(tmp_path / "groups.json", some)
        assert data.read_groups(str(tmp_path / "groups.json")) == some
    assert data.old_logprobs(scored) == {("a", "0"): [-0.1, -1 / 3], ("a", "1"): [-2.0]}
    assert data.old_logprobs(groups) == {}


def test_advantages_by_hand(bench: SimpleNamespace) -> None:
    """One of 8 is right: mean 1/8, variance (49 + 7) / 64 / 7 = 1/8. So 7/8 and -1/8 over sqrt(1/8) + 1e-4."""
    group = bench.preference_data.Group("a", "?", tuple("abcdefgh"), (1.0, *[0.0] * 7))
    found = bench.preference_data.advantages([group])
    spread = math.sqrt(1 / 8) + 1e-4
    assert found["a", "0"] == pytest.approx(7 / 8 / spread, rel=1e-6)
    assert [found["a", str(i)] for i in range(1, 8)] == pytest.approx([-1 / 8 / spread] * 7, rel=1e-6)


def test_the_built_in_corpus_gives_what_is_asked_for(bench: SimpleNamespace) -> None:
    """Enough for the default run; completions of about 30 tokens are about 23 words, prompts of about 300 about 230."""
    documents = read_source("builtin:train").documents
    for num, prompts in ((2, 8 * 7 + 8), (8, 2 * 7 + 8)):
        groups = bench.preference_data.make_groups(documents, num, lambda text: round(len(text.split()) * 1.3))
        assert len(groups) >= prompts
        assert len({group.id for group in groups}) == len(groups)
        assert all(group.rewards[0] == 1 and len(set(group.completions)) == num for group in groups)
        assert 190 < sum(words(group.prompt) for group in groups) / len(groups) < 270
    pairs = bench.preference_data.make_groups(documents, 2, lambda text: round(len(text.split()) * 1.3))
    assert 18 < sum(words(text) for pair in pairs for text in pair.completions) / len(pairs) / 2 < 28
