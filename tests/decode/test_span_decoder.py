"""The span decoder: long documents, thresholds, its cache against plain rows, and what it refuses."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from palmette.data.records import Document, Question
from palmette.decode.effort import Effort
from palmette.decode.posterior import Decision
from palmette.decode.prefix_cache import PrefixCache
from palmette.decode.span_decoder import SpanDecoder
from palmette.decode.spans import cut_windows, words
from palmette.errors import DataError, ModelError, PackingError
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tree.segments import TextEncoder
from tests.support.models import tiny_llama
from tests.support.span_decoding import EVERYTHING, LEARNED, QUESTIONS, TEXT, brute_force, check_offsets
from tests.support.spans import plain_spans


def test_a_long_document_is_merged_on_one_scale(
    fitted_model: Any, stock_model: Any, tokenizer: Any, qa_task: ExtractiveQa
) -> None:
    """Each window scored by brute force. It answers for the spans that begin in its own part: all others that it shows
    count as no answer there. Of k windows one holds the answer or none does, so the odds of a string are the mean over
    the windows.
    """
    text = " ".join(f"The ferry {i} leaves at {i * 7 % 60}." for i in range(8))
    effort = Effort(3, None, None, window_tokens=40, overlap_tokens=16, tokens_per_batch=4096)
    (found,) = SpanDecoder(fitted_model, tokenizer, effort=effort).answer(text, ["When?"])
    encoder = qa_task.template.encoder
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
        scores = brute_force(stock_model, qa_task, text[window.start : window.end], "When?", 3)
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


def test_a_threshold_makes_the_search_find_the_best_span(fitted_model: Any, tokenizer: Any) -> None:
    """Where a span may be given although "?" is likelier, the best span has to be proved, not just "?"."""
    text, questions = TEXT, [*LEARNED, *(f"What about {word}?" for word in TEXT.split())]
    always = Decision(always_answer=True)
    full = SpanDecoder(fitted_model, tokenizer, effort=Effort(max_passes=None, tokens_per_pass=None), decision=always)
    quick = SpanDecoder(fitted_model, tokenizer, effort=Effort(max_passes=None), decision=always)
    for exact, fast in zip(full.answer(text, questions), quick.answer(text, questions), strict=True):
        assert fast.certified
        assert fast.text == exact.text != ""


def test_a_question_mark_in_the_document_is_not_an_answer(fitted_model: Any, tokenizer: Any) -> None:
    full = SpanDecoder(fitted_model, tokenizer, effort=EVERYTHING).answer("Who? Nobody ? knows", QUESTIONS)
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


def test_predictions_in_full_have_every_scored_span_and_the_hidden_state_of_a_plain_row(
    fitted_model: Any, stock_model: Any, tokenizer: Any, qa_task: ExtractiveQa
) -> None:
    """Against transformers' own hidden states, after the final norm, where a row ends before its answer."""
    document = Document("d", TEXT, tuple(Question(one, one) for one in QUESTIONS))
    decoder = SpanDecoder(fitted_model, tokenizer, effort=EVERYTHING)
    plain = dict(decoder.predict([document]))
    seen = []
    for (name, prediction, hidden_D), question in zip(
        decoder.predict_in_full([document]), document.questions, strict=True
    ):
        prompt = qa_task.prompt_tokens(document, question) + list(qa_task.template.encoder.content('{"answer": "'))
        with torch.no_grad():
            row = stock_model(input_ids=torch.tensor([prompt]), output_hidden_states=True)
        torch.testing.assert_close(hidden_D, row.hidden_states[-1][0, -1], rtol=1e-6, atol=1e-6)
        assert {one.text for one in prediction.candidates} == set(plain_spans(TEXT, 4))
        assert prediction.candidates[:5] == plain[name].candidates
        shares = [prediction.no_answer_probability or 0.0, *(one.probability for one in prediction.candidates)]
        assert math.fsum(shares) == pytest.approx(1.0)
        seen.append(hidden_D)
    assert not torch.allclose(seen[0], seen[1])


def test_the_hidden_state_is_that_of_the_window_with_the_likeliest_span(fitted_model: Any, tokenizer: Any) -> None:
    """Each window is read as a document of its own. What begins outside its own part counts as no answer there."""
    filler = " ".join(f"Nothing stands here {n}." for n in range(12))
    long = Document("d", f"{filler} {TEXT} {filler}", (Question("q", "Where from?"),))
    effort = Effort(4, None, None, window_tokens=60, overlap_tokens=20, tokens_per_batch=4096)
    decoder = SpanDecoder(fitted_model, tokenizer, effort=effort)
    ((_, _, hidden_D),) = decoder.predict_in_full([long])
    windows = decoder.windows(long.text)
    assert len(windows) > 2
    alone = []
    for window in windows:
        text = long.text[window.start : window.end]
        ((_, prediction, own_D),) = SpanDecoder(fitted_model, tokenizer, effort=EVERYTHING).predict_in_full(
            [Document("w", text, long.questions)]
        )
        own = {long.text[start:end] for start, ends in window.runs(4) for end in ends}
        inside = [one.probability for one in prediction.candidates if one.text in own]
        alone.append((max(inside) / (1.0 - math.fsum(inside)), own_D))
    odds = sorted(best for best, _ in alone)
    assert odds[-1] > 1.01 * odds[-2]  # so that it is clear which one
    torch.testing.assert_close(hidden_D, max(alone, key=lambda one: one[0])[1], rtol=1e-6, atol=1e-6)


def test_what_does_not_fit_is_refused_with_its_name(fitted_model: Any, tokenizer: Any) -> None:
    with pytest.raises(PackingError, match=r"question '0' with a window of document 'document' may need .* Shorten"):
        SpanDecoder(fitted_model, tokenizer, effort=Effort(tokens_per_batch=128)).answer(
            "The tower is granite.", ["Who?"]
        )
    short = tiny_llama(vocab_size=len(tokenizer), max_position_embeddings=64)
    with pytest.raises(ModelError, match="limit of"):
        SpanDecoder(short, tokenizer).answer("The tower is granite.", ["Who?"])


def test_a_question_id_that_occurs_twice_is_refused(fitted_model: Any, tokenizer: Any) -> None:
    twice = [Document(name, TEXT, (Question("same", "Who?"),)) for name in ("a", "b")]
    with pytest.raises(DataError, match="'same' of document 'b' occurs twice"):
        dict(SpanDecoder(fitted_model, tokenizer).predict(twice))


def test_numbers_that_are_none_are_refused(tokenizer: Any) -> None:
    broken = tiny_llama(vocab_size=len(tokenizer))
    broken.lm_head.weight.data.fill_(math.nan)
    with pytest.raises(ModelError, match="not numbers"):
        SpanDecoder(broken, tokenizer).answer(TEXT, ["Who?"])


def test_a_long_document_of_many_questions_under_a_budget(fitted_model: Any, tokenizer: Any) -> None:
    """Windows and questions over several batches: what is proved agrees with scoring everything."""
    text = " ".join(f"The ferry {i} leaves at {i * 7 % 60}." for i in range(12))
    small = {"window_tokens": 60, "overlap_tokens": 20, "max_words": 3}
    questions = list(LEARNED)
    effort = Effort(**small, tokens_per_batch=600, tokens_per_pass=8)
    quick = SpanDecoder(fitted_model, tokenizer, effort=effort).answer(text, questions)
    everything = Effort(**small, max_passes=None, tokens_per_pass=None, tokens_per_batch=8192)
    full = SpanDecoder(fitted_model, tokenizer, effort=everything).answer(text, questions)
    assert all(exact.certified for exact in full)
    assert any(fast.certified and fast.unscored > 0 for fast in quick)
    for fast, exact in zip(quick, full, strict=True):
        if fast.certified:
            assert fast.text == exact.text
        low, high = fast.no_answer_probability, fast.no_answer_probability / (1 - fast.unscored)
        assert low * (1 - 1e-6) <= exact.no_answer_probability <= high * (1 + 1e-6)


@pytest.mark.parametrize("separator", ["\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\u2028"])
def test_information_separators_are_white_space(fitted_model: Any, tokenizer: Any, separator: str) -> None:
    """str.isspace says so, and what is stripped there must not be a word here. Such a document used to crash."""
    text = f"1931.{separator}It{separator}{separator} drains"
    assert [text[a:b] for a, b in words(text)] == ["1931", ".", "It", "drains"]
    (found,) = SpanDecoder(fitted_model, tokenizer, effort=EVERYTHING).answer(f"1931.{separator}It", ["When?"])
    assert found.certified
    assert {candidate.text for candidate in found.candidates} <= set(plain_spans(f"1931.{separator}It", 4))


def test_a_blob_without_a_blank_is_read_in_windows(fitted_model: Any, tokenizer: Any) -> None:
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
    (found,) = SpanDecoder(fitted_model, tokenizer, effort=effort).answer(text[:4000] + text[-40:], ["Who?"])
    assert found.num_windows > 5
