"""Law 6: what the span decoder says equals scoring every span by itself, and its proofs are right."""

from __future__ import annotations

import copy
import functools
import json
import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from palmette.data.records import Answer, Document, Question
from palmette.decode.posterior import Decision, SpanPosterior, WindowScores
from palmette.decode.prefix_cache import PrefixCache
from palmette.decode.span_decoder import Effort, SpanDecoder
from palmette.decode.spans import Window, cut_windows, words
from palmette.decode.trie import span_trie
from palmette.errors import DataError, ModelError, PackingError
from palmette.model.forward import score_tokens
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import json_escape
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from palmette.tree.segments import TextEncoder, _cuts_cleanly
from tests.support.models import tiny_llama
from tests.support.spans import plain_spans, texts
from tests.support.tokenizers import STYLES

EVERYTHING = Effort(max_words=4, max_passes=None, tokens_per_pass=None)
QUESTIONS = ["Who?", "What is the tower built of?"]


TEXT = "The tower is granite, and white. The ferry leaves at 7:40 from pier 3, but not in winter."
# Learned by heart by the model of these tests, so that it is sure of itself now and then, as a trained one is.
LEARNED = {
    "What is the tower built of?": "granite",
    "When does the ferry leave?": "7:40",
    "Where from?": "pier 3",
    "Who built it?": "?",
    "What colour is the ferry?": "?",
    "Who?": "?",
}


def fitted(tokenizer: Any, **changes: Any) -> Any:
    """A tiny model that has learned a few answers about one text."""
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2, **changes)
    task = ExtractiveQa(ChatTemplate(tokenizer))
    questions = tuple(Question(q, q, (Answer(a, TEXT.find(a)),) if a != "?" else ()) for q, a in LEARNED.items())
    batch = PackedBatch.from_trees([[task.training_tree(Document("d", TEXT, questions))]])
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        (-score_tokens(model, batch).logprob_P.mean()).backward()
        optimizer.step()
    return model.requires_grad_(False)


def stock(model: Any) -> Any:
    """The same weights with the attention of transformers."""
    plain = copy.deepcopy(model)
    plain.set_attn_implementation("sdpa")
    return plain


def brute_force(
    model: Any,
    task: ExtractiveQa,
    document: str,
    question: str,
    max_words: int,
    lead: str = "",
    *,
    spans: Iterable[str] | None = None,
) -> dict[str, float]:
    """Log-probability of "?" and of each span with the closing's first token, each in a row of its own, without a
    cache.
    """
    encoder = task.template.encoder
    asked = Question("q", question)
    prompt = task.prompt_tokens(Document("d", document, (asked,)), asked) + list(encoder.content(lead + '{"answer": "'))
    scores = {}
    for text in dict.fromkeys(("?", *(plain_spans(document, max_words) if spans is None else spans))):
        tail = [*encoder.content(json_escape(text)), encoder.content('"}')[0]]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + tail])).logits[0, len(prompt) - 1 : -1]
        scores[text] = float(torch.log_softmax(logits, -1)[range(len(tail)), tail].sum())
    return scores


@pytest.fixture(scope="module")
def task(tokenizer: Any) -> ExtractiveQa:
    return ExtractiveQa(ChatTemplate(tokenizer))


@pytest.fixture(scope="module")
def model(tokenizer: Any) -> Any:
    return fitted(tokenizer)


@pytest.fixture(scope="module")
def plain(model: Any) -> Any:
    return stock(model)


# How SmolLM2 and Llama 3 split text.
LLAMA3_PATTERN = r"(?i:'s|'t)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
PRE_TOKENIZERS = {
    "digits": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
    "split": [
        pre_tokenizers.Split(Regex(LLAMA3_PATTERN), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ],
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=texts, repeat=st.booleans(), inside=st.booleans())
def test_equals_brute_force(
    model: Any, plain: Any, tokenizer: Any, task: ExtractiveQa, text: str, repeat: bool, inside: bool
) -> None:
    """Every span scored: the same argmax and posterior as scoring each span alone.

    Few passes: a proof is never wrong.
    """
    document = f"{text} {text}" if repeat else text
    everything = replace(EVERYTHING, inside_words=inside)
    few = Effort(max_words=4, max_passes=2, tokens_per_pass=3, inside_words=inside)
    full = SpanDecoder(model, tokenizer, effort=everything).answer(document, QUESTIONS)
    quick = SpanDecoder(model, tokenizer, effort=few).answer(document, QUESTIONS)
    for question, exact, fast in zip(QUESTIONS, full, quick, strict=True):
        spans = plain_spans(document, 4, inside_words=inside)
        scores = brute_force(plain, task, document, question, 4, spans=spans)
        total = math.log(sum(math.exp(value) for value in scores.values()))
        posterior = {text: math.exp(value - total) for text, value in scores.items()}
        best = max(posterior, key=lambda key: posterior[key])
        assert exact.certified
        assert exact.unscored == 0.0
        assert (exact.text or "?") == best
        assert exact.probability == pytest.approx(posterior[best], rel=1e-4)
        assert exact.no_answer_probability == pytest.approx(posterior["?"], rel=1e-4)
        if fast.certified:
            assert (fast.text or "?") == best
        for prediction in (exact, fast):
            check_offsets(document, prediction)
            for candidate in prediction.candidates:
                low, high = candidate.probability, candidate.probability / max(1e-300, 1 - prediction.unscored)
                assert low * (1 - 1e-4) <= posterior[candidate.text] <= high * (1 + 1e-4)


def check_offsets(document: str, prediction: Any) -> None:
    for candidate in prediction.candidates:
        assert document[candidate.start : candidate.end] == candidate.text
    if prediction.text:
        assert document[prediction.start : prediction.end] == prediction.text
    else:
        assert prediction.start is prediction.end is None


def test_the_property_is_not_vacuous(model: Any, tokenizer: Any) -> None:
    """On ordinary text the quick decoder gives answers and refusals, proved and unproved, in one pass and in more."""
    questions = [*LEARNED, *(f"What about {word}?" for word in TEXT.split())]
    found = SpanDecoder(model, tokenizer, effort=Effort(max_passes=2, tokens_per_pass=4)).answer(TEXT, questions)
    assert {bool(p.text) for p in found} == {True, False}
    assert {p.certified for p in found} == {True, False}
    assert {p.num_passes for p in found} == {1, 2}
    assert any(p.certified and p.unscored > 0 for p in found)


@pytest.mark.parametrize("style", STYLES)
def test_every_style_of_tokenizer(style: str) -> None:
    """Byte-level, SentencePiece-like and metaspace tokenizers, five templates: still equal to brute force."""
    tokenizer = STYLES[style]()
    task = ExtractiveQa(ChatTemplate(tokenizer))
    model = fitted(tokenizer)
    document = 'The "tower" is granite,\nand C:\\white. The tower?'
    (found,) = SpanDecoder(model, tokenizer, effort=EVERYTHING).answer(document, ["Of what?"])
    scores = brute_force(stock(model), task, document, "Of what?", 4, lead=" " if style == "llama2" else "")
    best = max(scores, key=lambda key: scores[key])
    total = math.log(sum(math.exp(value) for value in scores.values()))
    assert (found.text or "?") == best
    assert found.probability == pytest.approx(math.exp(scores[best] - total), rel=1e-4)


def test_batches_and_neighbours_change_nothing(model: Any, tokenizer: Any) -> None:
    """A question alone, and the same question among others in small batches: the same numbers."""
    texts = ["The tower is granite.", "Nobody knows who built it, or when.", "White as salt: the ferry of 7:40."]
    documents = [
        Document(str(i), text, tuple(Question(f"{i}-{j}", q) for j, q in enumerate(QUESTIONS)))
        for i, text in enumerate(texts)
    ]
    together = dict(SpanDecoder(model, tokenizer).predict(documents))
    few = Effort(tokens_per_batch=320)
    assert len(list(SpanDecoder(model, tokenizer, effort=few)._batches(documents))) > len(documents)
    small = dict(SpanDecoder(model, tokenizer, effort=few).predict(documents))
    assert together.keys() == small.keys() == {f"{i}-{j}" for i in range(3) for j in range(2)}
    for i, text in enumerate(texts):
        for j, question in enumerate(QUESTIONS):
            (alone,) = SpanDecoder(model, tokenizer).answer(text, [question])
            for other in (together[f"{i}-{j}"], small[f"{i}-{j}"]):
                assert (other.text, other.certified, other.num_passes) == (
                    alone.text,
                    alone.certified,
                    alone.num_passes,
                )
                assert other.probability == pytest.approx(alone.probability, rel=1e-6)


@settings(max_examples=150, deadline=None)
@given(text=texts, style=st.sampled_from([*sorted(STYLES), *PRE_TOKENIZERS]), inside=st.booleans())
def test_tokens_of_spans_are_those_they_have_alone(text: str, style: str, inside: bool) -> None:
    """Cut out of a longer encoding or not: every string of the trie has the tokens of its own content segment."""
    encoder = encoder_of(style)
    bounds = words(text, inside_words=inside)
    trie = span_trie(encoder, text, Window(0, len(text), bounds, bounds), 5)
    expected = {tuple(encoder.content(json_escape(span))) for span in {"?", *plain_spans(text, 5, inside_words=inside)}}
    ends = {
        trie.end[node]: tuple(trie.token[n] for n in trie.path(node))
        for node in range(len(trie))
        if trie.end[node] >= 0
    }
    assert set(ends.values()) == expected
    for string, tokens in ends.items():
        assert tokens == tuple(encoder.content(json_escape(trie.strings[string])))


@functools.cache
def encoder_of(style: str) -> TextEncoder:
    tokenizer = STYLES["smollm2" if style in PRE_TOKENIZERS else style]()
    if style in PRE_TOKENIZERS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(PRE_TOKENIZERS[style])
    encoder = TextEncoder(tokenizer)
    assert encoder._cuts_cleanly or style not in PRE_TOKENIZERS
    return encoder


def test_some_tokenizers_cut_cleanly_and_some_do_not() -> None:
    """The property above meets both ways; a pattern that looks ahead, or a normalizer, is not trusted."""
    assert {encoder_of(style)._cuts_cleanly for style in STYLES} == {True, False}
    spec = json.loads(STYLES["smollm2"]().backend_tokenizer.to_str()) | {"added_tokens": [], "normalizer": None}
    unclean = (r"\w+(?=\.)|.", r"\bx|.", r"\w+$|.", r"(?>a|ab)c|.", r"\w+(?!\S)|.", r"\p{L}++|.", r"x{1,2}+|.", r"\X")
    for pattern, clean in ((LLAMA3_PATTERN, True), *((pattern, False) for pattern in unclean)):
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        assert _cuts_cleanly({**spec, "pre_tokenizer": split}) is clean
    assert not _cuts_cleanly({**spec, "normalizer": {"type": "NFC"}})


def test_a_long_document_is_merged_on_one_scale(model: Any, plain: Any, tokenizer: Any, task: ExtractiveQa) -> None:
    """Each window scored by brute force. It answers for the spans that begin in its own part: all others that it shows
    count as no answer there. Of k windows one holds the answer or none does, so the odds of a string are the mean over
    the windows.
    """
    text = " ".join(f"The ferry {i} leaves at {i * 7 % 60}." for i in range(8))
    effort = Effort(3, None, None, window_tokens=40, overlap_tokens=16, tokens_per_batch=4096)
    (found,) = SpanDecoder(model, tokenizer, effort=effort).answer(text, ["When?"])
    encoder = task.template.encoder
    windows = cut_windows(
        text,
        lambda parts: [len(ids) for ids in encoder.contents(parts)],
        max_words=3,
        window_tokens=40,
        overlap_tokens=16,
    )
    assert len(windows) > 2
    odds: dict[str, float] = {}
    for window in windows:
        scores = brute_force(plain, task, text[window.start : window.end], "When?", 3)
        own = {text[start:end] for start, ends in window.runs(3) for end in ends}
        elsewhere = math.fsum(math.exp(score) for string, score in scores.items() if string not in own)
        for span in own:
            odds[span] = odds.get(span, 0.0) + math.exp(scores[span]) / elsewhere / len(windows)
    total = 1.0 + sum(odds.values())
    best = max(odds, key=lambda key: odds[key])
    assert found.candidates[0].text == best
    assert found.candidates[0].probability == pytest.approx(odds[best] / total, rel=1e-4)
    assert found.no_answer_probability == pytest.approx(1 / total, rel=1e-4)
    assert found.certified
    check_offsets(text, found)


def test_merging_by_hand() -> None:
    """Two windows, each with half of the prior. "a": odds (2 + 1) / 2 = 1.5; "b": 0.25, maybe up to 0.1875 more.

    Not looked into: 0.25 and 0.1 in the first window, 0.125 in the second. A string scored nowhere is at most (0.25 +
    0.125) / 2.
    """
    first = WindowScores({"a": (4, math.log(2)), "b": (9, math.log(0.5))}, math.log(0.35), math.log(0.25), 2)
    second = WindowScores({"a": (50, 0.0)}, math.log(0.125), math.log(0.125), 3)
    merged = SpanPosterior.merge([first, second])
    assert [(text, start) for text, start, _ in merged.spans] == [("a", 4), ("b", 9)]
    assert math.exp(merged.spans[0][2]) == pytest.approx(1.5)
    assert math.exp(merged.unscored) == pytest.approx(0.2375)
    assert math.exp(merged.bound) == pytest.approx(0.1875)
    assert math.exp(merged.evidence.rivals) == pytest.approx(0.4375)
    assert merged.num_passes == 3
    found = Decision().decide(merged)
    assert found.text == "a"
    assert found.certified
    # 1 + (3 + 0.5) / 2 + 0.475 / 2 = 2.9875
    assert found.probability == pytest.approx(1.5 / 2.9875)
    assert found.no_answer_probability == pytest.approx(1 / 2.9875)
    assert found.unscored == pytest.approx(0.2375 / 2.9875)


def one_window(*odds: float, unscored: float = 0.0, bound: float = 0.0) -> SpanPosterior:
    """Spans "a", "b", ... with these odds against "?", and what was not looked into."""
    spans = {"abcdef"[index]: (2 * index, math.log(value)) for index, value in enumerate(odds)}
    return SpanPosterior.merge([WindowScores(spans, log(unscored), log(bound), 1)])


def log(value: float) -> float:
    return math.log(value) if value else -math.inf


def test_no_proof_where_an_unscored_string_could_be_likelier() -> None:
    """Best scored 0.5, "?" 1, but something with odds up to 2 was not looked into."""
    found = Decision().decide(one_window(0.5, unscored=2, bound=2))
    assert (found.text, found.refusal, found.certified) == ("", "absent", False)


def test_thresholds_decide() -> None:
    """Odds 1.5 and 0.5, in all Z = 2, against 1: probabilities 1/2, 1/6, 1/3.

    With temperature 1/2, Z counts as 4: 1/5 for none.
    """
    posterior = one_window(1.5, 0.5)
    assert Decision().decide(posterior).probability == pytest.approx(1 / 2)
    strict = Decision(max_no_answer=0.3).decide(posterior)
    assert (strict.text, strict.refusal, strict.certified) == ("", "absent", True)
    assert strict.probability == pytest.approx(1 / 3)
    unsure = Decision(min_confidence=0.6).decide(posterior)
    assert (unsure.text, unsure.refusal, unsure.certified) == ("", "unsure", True)
    assert unsure.candidates[0].text == "a"
    assert unsure.probability == pytest.approx(1 / 3)
    sharper = Decision(temperature=0.5).decide(posterior)
    assert sharper.no_answer_probability == pytest.approx(1 / 5)
    assert sharper.probability == pytest.approx(4 / 5 * 3 / 4)
    with pytest.raises(ValueError, match="not above 0"):
        Decision(temperature=0.0)


@pytest.mark.parametrize(
    ("decision", "posterior", "kind"),
    [
        # P(none) is 1/4 with the rest counted as answers, 1/3 without it.
        (Decision(max_no_answer=0.3), one_window(2, unscored=1, bound=1), "answer"),
        # Nothing scored: with everything scored there would be an answer.
        (Decision(max_no_answer=1.0), one_window(unscored=0.5, bound=0.5), "absent"),
        # P(a) is 2 / 4.5 with the rest, 2 / 3 without it.
        (Decision(min_confidence=0.5), one_window(2, unscored=1.5, bound=1.5), "unsure"),
    ],
)
def test_a_threshold_between_the_bounds_is_not_certified(
    decision: Decision, posterior: SpanPosterior, kind: str
) -> None:
    verdict, certain = decision.verdict(posterior.evidence)
    assert (verdict, certain) == (kind, False)


decisions = st.builds(
    Decision,
    temperature=st.floats(0.2, 5),
    max_no_answer=st.none() | st.floats(0, 1),
    min_confidence=st.just(0.0) | st.floats(0, 1),
)


@settings(max_examples=400, deadline=None)
@given(
    decision=decisions,
    scored=st.lists(st.floats(1e-3, 50), max_size=4),
    hidden=st.lists(st.floats(1e-3, 50), max_size=5),
    slack=st.floats(1, 3),
)
def test_what_is_certified_stays_when_everything_is_scored(
    decision: Decision, scored: list[float], hidden: list[float], slack: float
) -> None:
    """Hidden spans are known by bounds on their sum and their largest, as loose as they like, under every threshold."""
    bounds = {"unscored": slack * sum(hidden), "bound": slack * max(hidden, default=0.0)}
    partial = decision.decide(one_window(*sorted(scored, reverse=True), **bounds))
    spans = {f"s{index}": (index, math.log(value)) for index, value in enumerate(scored)}
    spans |= {f"h{index}": (9 + index, math.log(value)) for index, value in enumerate(hidden)}
    full = decision.decide(SpanPosterior.merge([WindowScores(spans, -math.inf, -math.inf, 1)]))
    assert full.certified
    if partial.certified:
        assert partial.refusal == full.refusal
        if partial.text:
            assert max(scored) == pytest.approx(math.exp(max(value for _, value in spans.values())))
            assert full.text.startswith("s") or max(scored) in hidden
    assert sum(candidate.probability for candidate in full.candidates) <= 1 + 1e-9


def test_a_threshold_makes_the_search_find_the_best_span(model: Any, tokenizer: Any) -> None:
    """Where a span may be given although "?" is likelier, the best span has to be proved, not just "?"."""
    text, questions = TEXT, [*LEARNED, *(f"What about {word}?" for word in TEXT.split())]
    always = Decision(max_no_answer=1.0)
    full = SpanDecoder(model, tokenizer, effort=Effort(max_passes=None, tokens_per_pass=None), decision=always)
    quick = SpanDecoder(model, tokenizer, effort=Effort(max_passes=None), decision=always)
    for exact, fast in zip(full.answer(text, questions), quick.answer(text, questions), strict=True):
        assert fast.certified
        assert fast.text == exact.text != ""


def test_a_question_mark_in_the_document_is_not_an_answer(model: Any, tokenizer: Any) -> None:
    full = SpanDecoder(model, tokenizer, effort=EVERYTHING).answer("Who? Nobody ? knows", QUESTIONS)
    for prediction in full:
        assert "?" not in [candidate.text for candidate in prediction.candidates]


@pytest.mark.parametrize("backend", ["palmette_sdpa", "palmette_eager", "palmette_flex"])
def test_the_cache_equals_plain_rows(backend: str, tokenizer: Any) -> None:
    """Three branches grown in two passes, with a placeholder that nobody sees: each equals a row of its own."""
    model, plain = (tiny_llama(torch.float64, name, vocab_size=len(tokenizer)) for name in (backend, "sdpa"))
    cache = PrefixCache(model, 64)
    with torch.inference_mode():
        trunk = cache.append([5, 6, 7], -1)
        hidden = cache.append([8, 9], trunk, attend=False)
        left, right = cache.append([10, 11], hidden), cache.append([12], hidden)
        first = cache.read([right, left])
        deeper = cache.append([13, 14], right)
        second = cache.read([deeper])
        cache.truncate(3)
        again = cache.append([10, 11], cache.append([8, 9], trunk, attend=False))
        third = cache.read([again])
    for got, row in (
        (first[0], [5, 6, 7, 8, 9, 12]),
        (first[1], [5, 6, 7, 8, 9, 10, 11]),
        (second[0], [5, 6, 7, 8, 9, 12, 13, 14]),
        (third[0], [5, 6, 7, 8, 9, 10, 11]),
    ):
        size = len(row)
        mask = torch.ones(size, size, dtype=torch.bool).tril()
        mask[:, 3:5] = False
        mask |= torch.eye(size, dtype=torch.bool)
        with torch.no_grad():
            want = plain(input_ids=torch.tensor([row]), attention_mask=mask[None, None]).logits[0, -1]
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-6)


def test_what_does_not_fit_is_refused_with_its_name(model: Any, tokenizer: Any) -> None:
    with pytest.raises(PackingError, match=r"question '0' with a window of document 'document' may need .* Shorten"):
        SpanDecoder(model, tokenizer, effort=Effort(tokens_per_batch=128)).answer("The tower is granite.", ["Who?"])
    short = tiny_llama(vocab_size=len(tokenizer), max_position_embeddings=64)
    with pytest.raises(ModelError, match="limit of"):
        SpanDecoder(short, tokenizer).answer("The tower is granite.", ["Who?"])


def test_a_question_id_that_occurs_twice_is_refused(model: Any, tokenizer: Any) -> None:
    twice = [Document(name, TEXT, (Question("same", "Who?"),)) for name in ("a", "b")]
    with pytest.raises(DataError, match="'same' of document 'b' occurs twice"):
        dict(SpanDecoder(model, tokenizer).predict(twice))


def test_numbers_that_are_none_are_refused(tokenizer: Any) -> None:
    broken = tiny_llama(vocab_size=len(tokenizer))
    broken.lm_head.weight.data.fill_(math.nan)
    with pytest.raises(ModelError, match="not numbers"):
        SpanDecoder(broken, tokenizer).answer(TEXT, ["Who?"])


def test_a_long_document_of_many_questions_under_a_budget(model: Any, tokenizer: Any) -> None:
    """Windows and questions over several batches: what is proved agrees with scoring everything."""
    text = " ".join(f"The ferry {i} leaves at {i * 7 % 60}." for i in range(12))
    small = {"window_tokens": 60, "overlap_tokens": 20, "max_words": 3}
    questions = list(LEARNED)
    effort = Effort(**small, tokens_per_batch=600, tokens_per_pass=8)
    quick = SpanDecoder(model, tokenizer, effort=effort).answer(text, questions)
    everything = Effort(**small, max_passes=None, tokens_per_pass=None, tokens_per_batch=8192)
    full = SpanDecoder(model, tokenizer, effort=everything).answer(text, questions)
    assert all(exact.certified for exact in full)
    assert any(fast.certified and fast.unscored > 0 for fast in quick)
    for fast, exact in zip(quick, full, strict=True):
        if fast.certified:
            assert fast.text == exact.text
        low, high = fast.no_answer_probability, fast.no_answer_probability / (1 - fast.unscored)
        assert low * (1 - 1e-6) <= exact.no_answer_probability <= high * (1 + 1e-6)


@pytest.mark.parametrize("separator", ["\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u2028"])
def test_information_separators_are_white_space(model: Any, tokenizer: Any, separator: str) -> None:
    """str.isspace says so, and what is stripped there must not be a word here. Such a document used to crash."""
    text = f"1931.{separator}It{separator}{separator} drains"
    assert [text[a:b] for a, b in words(text)] == ["1931", ".", "It", "drains"]
    (found,) = SpanDecoder(model, tokenizer, effort=EVERYTHING).answer(f"1931.{separator}It", ["When?"])
    assert found.certified
    assert {candidate.text for candidate in found.candidates} <= set(plain_spans(f"1931.{separator}It", 4))


def test_a_blob_without_a_blank_is_read_in_windows(model: Any, tokenizer: Any) -> None:
    """30,000 letters in a row: cut into words of 64, so that windows stay small and the rest can be answered."""
    text = f"The tower is granite. {'bCd' * 10_000} The ferry leaves at 7:40."
    pieces = [word for word in words(text) if text[word[0]] in "bCd"]
    assert {word[-1] - word[0] for word in pieces[1:-1]} == {64}
    assert "".join(text[a:b] for a, b in pieces).startswith("bCdbCd")
    count = [len(ids) for ids in TextEncoder(tokenizer).contents(["bCd" * 21])]
    windows = cut_windows(text, lambda t: [len(p) for p in t], max_words=4, window_tokens=500, overlap_tokens=100)
    assert max(window.end - window.start for window in windows) < 1000
    effort = Effort(max_words=2, window_tokens=200, overlap_tokens=50, tokens_per_batch=1500, max_passes=1)
    assert count[0] > 10  # this tokenizer does not swallow it
    (found,) = SpanDecoder(model, tokenizer, effort=effort).answer(text[:4000] + text[-40:], ["Who?"])
    assert found.num_windows > 5
