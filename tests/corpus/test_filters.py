"""What each step of cleaning drops, on texts that were made so that the right answer is known."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from palmette.config.corpus import CleanSection
from palmette.corpus.boilerplate import without_boilerplate
from palmette.corpus.cleaning import NUM_EXAMPLES, Counts, Dropped, clean
from palmette.corpus.duplicates import NUM_HASHES, ExactDuplicates, MinHash, NearDuplicates, num_rows, similarity
from palmette.corpus.language import InLanguages, language_of
from palmette.corpus.overlap import EvaluationSets
from palmette.corpus.repetition import Repetitive, repeated_ngram_share, repeated_share, top_share
from palmette.corpus.steps import OfLength, step_maker
from palmette.corpus.texts import Text
from palmette.errors import DataError, RecipeError

QUESTION = {"id": "q", "question": "What?", "answers": [], "is_impossible": True}
WORDS = [f"w{number}" for number in range(5_000)]


def text_of(text: str, name: str = "a") -> Text:
    return Text(name, text, "source")


def prose(count: int, seed: int = 0) -> list[str]:
    """Different words, so that nothing is repeated."""
    return random.Random(seed).sample(WORDS, count)


@pytest.mark.parametrize("jaccard", [0.2, 0.5, 0.8, 0.95])
def test_minhash_estimates_the_true_jaccard_similarity(jaccard: float) -> None:
    """Sets with a known overlap, 60 pairs. The mean of 60 estimates of a share of 128 hashes has a standard error of at
    most 0.0057, and their spread is that of a binomial share.
    """
    generator = np.random.default_rng(5)
    hashes, found = MinHash(), []
    for _ in range(60):
        union = generator.choice(2**32, size=1000, replace=False).astype(np.uint64)
        shared = round(1000 * jaccard)
        rest = (1000 - shared) // 2
        one, other = union[: shared + rest], np.concatenate([union[:shared], union[shared + rest :]])
        found.append(similarity(hashes.signature(one), hashes.signature(other)))
    error = (jaccard * (1 - jaccard) / NUM_HASHES) ** 0.5
    assert np.mean(found) == pytest.approx(jaccard, abs=3 * error / 60**0.5)
    assert np.std(found) == pytest.approx(error, rel=0.35)


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9])
def test_bands_meet_pairs_at_the_threshold(threshold: float) -> None:
    """Simulated: hashes that agree with the probability of the threshold, cut into bands. At least 95 % of the pairs
    agree in a whole band, and with the next longer bands fewer do. The standard error of 20,000 pairs is 0.0015.
    """
    agree = np.random.default_rng(7).random((20_000, NUM_HASHES)) < threshold

    def met(rows: int) -> float:
        return float(agree.reshape(len(agree), -1, rows).all(axis=2).any(axis=1).mean())

    rows = num_rows(threshold)
    assert met(rows) >= 0.95 - 0.005
    assert met(2 * rows) < 0.95 + 0.005


@pytest.mark.parametrize(("changed", "kept"), [(0, False), (1, False), (3, False), (30, True), (100, True)])
def test_near_duplicates_are_those_that_share_most_grams(changed: int, kept: bool) -> None:
    """A change of one word in 1,000 changes 5 of 996 grams: the similarity with c changes apart is (996 - 5c) / (996 +
    5c), which is 1, 0.99, 0.97, 0.74 and 0.33. The threshold of 0.8 is more than a standard error of 0.044 away.
    """
    words = prose(1000)
    other = list(words)
    for number in range(changed):
        other[number * 9 + 5] = f"x{number}"
    step = NearDuplicates(0.85)
    assert isinstance(step(text_of(" ".join(words), "first")), Text)
    found = step(text_of(" ".join(other), "second"))
    assert isinstance(found, Text) is kept
    if isinstance(found, Dropped):
        assert found.reason == "near duplicate"
        assert found.detail.endswith("of first")


def test_equal_texts_are_dropped_whatever_their_case_and_blanks() -> None:
    step = ExactDuplicates()
    assert isinstance(step(text_of("The kiln\nwas fired.", "one")), Text)
    assert step(text_of("the  kiln was FIRED.", "two")) == Dropped("exact duplicate", "equals one")
    assert isinstance(step(text_of("The kiln was fired", "three")), Text)


def test_repeated_lines_paragraphs_and_grams_are_dropped() -> None:
    """Each text breaks one of Gopher's rules only, or is just below it."""
    unique = prose(400)
    lines = [" ".join(unique[start : start + 10]) for start in range(0, 400, 10)]
    step = Repetitive()
    assert isinstance(step(text_of("\n".join(lines))), Text)
    repeated = step(text_of("\n".join([*lines[:20], *["x"] * 10])))  # 9 of 30 are 30 %
    assert isinstance(repeated, Text)
    repeated = step(text_of("\n".join([*lines[:20], *["x"] * 11])))
    assert isinstance(repeated, Dropped)
    assert repeated.detail == "32 % of the lines came before, limit 30 %"
    often = " ".join(f"{' '.join(unique[start : start + 4])} extraordinary circumstance" for start in range(0, 100, 4))
    found = step(text_of(often))
    assert isinstance(found, Dropped)
    assert "in the most frequent 2-gram, limit 20 %" in found.detail


def test_shares_of_repetition_by_hand() -> None:
    """In "aa b aa c" one of four parts came before, with 2 of 6 characters. In "a b c a b d" the second "a b" covers 2
    of 6 characters. In "a b a b a" the 2-grams are ab, ba, ab, ba: the third and the fourth came before, and cover
    the last 3 of 5 characters.
    """
    assert repeated_share(["aa", "b", "aa", "c"]) == (0.25, 2 / 6)
    assert repeated_ngram_share(["a", "b", "c", "a", "b", "d"], 2) == 2 / 6
    assert repeated_ngram_share(["a", "b", "a", "b", "a"], 2) == 3 / 5
    assert top_share(["a", "b", "a", "b", "c"], 2) == 4 / 5
    assert top_share(["a", "b", "c"], 2) == 0.0


@given(st.lists(st.sampled_from("ab"), max_size=30), st.integers(2, 4))
def test_no_character_counts_twice(words: list[str], size: int) -> None:
    assert 0 <= repeated_ngram_share(words, size) <= 1


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "It was the best of times, it was the worst of times, it was the age of wisdom."),
        ("de", "Jemand musste ihn verleumdet haben, denn ohne dass er etwas Böses getan hätte, wurde er verhaftet."),
        (
            "fr",
            "Longtemps, je me suis couché de bonne heure et parfois, à peine ma bougie éteinte, mes yeux se fermaient.",
        ),
        (
            "es",
            "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía un hidalgo.",
        ),
        (
            "it",
            "Nel mezzo del cammin di nostra vita mi ritrovai per una selva oscura, che la diritta via era smarrita.",
        ),
        ("pt", "Algum tempo hesitei se devia abrir estas memórias pelo princípio ou pelo fim, isto é, não sei."),
        ("nl", "Ik ben makelaar in koffie, en woon op de Lauriergracht, en het is niet mijn gewoonte om dit te doen."),
        ("ru", "Все счастливые семьи похожи друг на друга, и каждая несчастливая семья несчастлива по-своему."),
        (None, "while (k < 10) { sum += values[k]; k++; }"),
        (None, ""),
    ],
)
def test_languages_are_told_by_their_first_sentences(language: str | None, text: str) -> None:
    assert language_of(text) == language


def test_other_languages_are_dropped_and_unknown_names_refused() -> None:
    step = InLanguages(["en", "fr"])
    assert isinstance(step(text_of("It was the best of times, and it was the worst of times.")), Text)
    assert step(text_of("Der Ofen wurde um neun geöffnet, und er war kalt.")) == Dropped("other language", "de")
    with pytest.raises(RecipeError, match=r"'english' is not known\. Known: en, de"):
        InLanguages(["english"])


def test_lengths_are_counted_in_words() -> None:
    step = OfLength(3, 5)
    assert [isinstance(step(text_of("w " * count)), Text) for count in (2, 3, 5, 6)] == [False, True, True, False]


def test_boilerplate_is_taken_out_of_a_book_and_of_a_page() -> None:
    start, end = ("*** START OF THIS PROJECT GUTENBERG EBOOK X ***", "*** END OF THE PROJECT GUTENBERG EBOOK X ***")
    book = f"Title\n{start}\nThe tale.\n{end}\nLicence"
    assert without_boilerplate(text_of(book)).text == "The tale.\n"
    page = "Please enable JavaScript.\nA long day. " + "It rained and we use cookies. " * 9
    assert without_boilerplate(text_of(page)).text == page.partition("\n")[2]


def test_notices_stay_where_they_are_not_those_of_one_book() -> None:
    start, end = (f"*** {mark} OF THE PROJECT GUTENBERG EBOOK X ***\n" for mark in ("START", "END"))
    for text in (
        f"{start}The first.\n{end}Licence\n{start}The second.\n{end}Licence",
        f"{end}The tale.\n{start}Another.",
    ):
        assert without_boilerplate(text_of(text)).text == text
    assert without_boilerplate(text_of(f"Title\n{start}The tale.")).text == "The tale."


def test_a_set_whose_runs_are_known_already_is_taken(tmp_path: Path) -> None:
    """The second set is a part of the first."""
    rows = [{"question": " ".join(prose(20, seed))} for seed in (1, 2)]
    for name, some in (("all.jsonl", rows), ("part.json", rows[:1])):
        text = json.dumps(some) if name.endswith(".json") else "".join(json.dumps(row) + "\n" for row in some)
        (tmp_path / name).write_text(text)
    step = EvaluationSets([str(tmp_path / "all.jsonl"), str(tmp_path / "part.json")], 13)
    assert isinstance(step(text_of(rows[0]["question"])), Dropped)


def test_a_json_list_is_an_evaluation_set(tmp_path: Path) -> None:
    (tmp_path / "set.json").write_text(json.dumps([{"question": " ".join(prose(20))}]))
    step = EvaluationSets([str(tmp_path / "set.json")], 13)
    assert isinstance(step(text_of(" ".join(prose(20)))), Dropped)
    squad = {"data": [{"title": "t", "paragraphs": [{"context": " ".join(prose(20, 1)), "qas": [QUESTION]}]}]}
    (tmp_path / "squad.json").write_text(json.dumps(squad))
    step = EvaluationSets([str(tmp_path / "squad.json")], 13)
    assert isinstance(step(text_of(" ".join(prose(20, 1)))), Dropped)


def test_evaluation_sets_are_read_once(tmp_path: Path) -> None:
    path = tmp_path / "set.jsonl"
    path.write_text(json.dumps({"question": " ".join(prose(20))}) + "\n")
    make_steps = step_maker(CleanSection(against=[str(path)]))
    path.unlink()
    for _ in range(2):  # with new steps, nothing came before
        found = list(clean([text_of(" ".join(prose(20))), text_of("Pier 3")], make_steps(), {}, "s"))
        assert [text.text for text in found] == ["Pier 3"]


def test_texts_that_hold_a_part_of_an_evaluation_set_are_dropped(tmp_path: Path) -> None:
    """A run of 13 words is the border. A question of 8 words counts as a whole, one of 7 does not count."""
    words = prose(30)
    row = {"question": " ".join(words), "answer": {"text": [" ".join(prose(8, 1)), " ".join(prose(7, 2))]}}
    (tmp_path / "set.jsonl").write_text(json.dumps(row) + "\n")
    step = EvaluationSets([str(tmp_path / "set.jsonl")], 13)
    twelve, thirteen = (" ".join(["before", *words[5 : 5 + count], "after"]) for count in (12, 13))
    assert isinstance(step(text_of(twelve)), Text)
    found = step(text_of(thirteen.upper().replace(" ", ",\n")))
    assert isinstance(found, Dropped)
    assert found.detail.startswith(f"shares '{words[5]}")
    assert isinstance(step(text_of("so " + " ".join(prose(8, 1)))), Dropped)
    assert isinstance(step(text_of("so " + " ".join(prose(7, 2)))), Text)
    builtin = EvaluationSets(["builtin:test"], 13)
    from palmette.data.source import read_source

    assert isinstance(builtin(text_of(read_source("builtin:test").documents[0].text)), Dropped)
    (tmp_path / "short.jsonl").write_text('{"question": "Why?"}\n')
    with pytest.raises(DataError, match="holds no text of 8 words"):
        EvaluationSets([str(tmp_path / "short.jsonl")], 13)


def test_what_is_dropped_is_counted_with_examples() -> None:
    counts: dict[str, Counts] = {}
    texts = [
        *(text_of(f"{number}", f"short {number}") for number in range(5)),
        text_of("It was the best of times.", "good"),
        text_of("it was the best of times.", "again"),
        text_of("This site uses cookies.", "banner"),
        DataError("line 7 is not JSON", "Fix it."),
    ]
    steps = step_maker(CleanSection(min_words=2, boilerplate=True))()
    kept = list(clean(texts, steps, counts, "s"))
    assert [text.name for text in kept] == ["good"]
    own = counts["s"]
    assert (own.read, own.texts, own.characters) == (9, 1, len("It was the best of times."))
    dropped = {reason: drops.texts for reason, drops in own.dropped.items()}
    assert dropped == {"too short": 6, "exact duplicate": 1, "cannot be read": 1}
    assert own.read == own.texts + sum(dropped.values())
    examples = own.dropped["too short"].examples
    assert len(examples) == NUM_EXAMPLES
    assert examples[0] == ("short 0", "1 words, at least 2 are asked for", "'0'")
