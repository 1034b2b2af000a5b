"""A document that stays open: what is read of it, what is kept, and that neither changes an answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from palmette.data.records import Document, Question
from palmette.decode.effort import Effort
from palmette.decode.long_document import FirstLook, LongDocument
from palmette.decode.posterior import Decision
from palmette.decode.prefix_cache import PrefixCache, States
from palmette.decode.span_decoder import SpanDecoder
from palmette.errors import PackingError
from palmette.tasks.extractive_qa import Reasoning
from palmette.tasks.qa_prompt import load_prompt
from tests.support.models import tiny_llama
from tests.support.span_decoding import LEARNED

SMALL = {"window_tokens": 60, "overlap_tokens": 20, "max_words": 3, "tokens_per_batch": 800, "tokens_per_pass": 8}
TEXT = " ".join(f"The ferry {name} leaves at {i * 7 % 60}." for i, name in enumerate("abcdefghijklmnop"))
ASKED = [Question(str(index), text) for index, text in enumerate((*LEARNED, "When does ferry n leave?"))]
LOOK = FirstLook(whole_windows=2, max_windows=3, windows_per_round=2, max_unread=0.05)


@pytest.fixture(scope="module")
def decoder(fitted_model: Any, tokenizer: Any) -> SpanDecoder:
    return SpanDecoder(fitted_model, tokenizer, effort=Effort(**SMALL))


def opened(decoder: SpanDecoder, look: FirstLook | None = LOOK, **options: Any) -> LongDocument:
    return LongDocument(decoder, Document("d", TEXT, ()), first_look=look, **options)


class Shelf:
    """A store that keeps everything, as bits."""

    def __init__(self) -> None:
        self.kept: dict[tuple[int, ...], States] = {}

    def get(self, tokens: Sequence[int]) -> States | None:
        return self.kept.get(tuple(tokens))

    def put(self, tokens: Sequence[int], states: States) -> None:
        self.kept[tuple(tokens)] = [(keys.clone(), values.clone()) for keys, values in states]


def test_read_whole_it_answers_as_a_document_that_is_read_once(decoder: SpanDecoder) -> None:
    """The same windows, spans and merging. Only sums are rounded otherwise, here in float64."""
    want = dict(decoder.posteriors([Document("d", TEXT, tuple(ASKED))]))
    document = opened(decoder, None)
    found = document.posteriors(ASKED)
    assert document.num_windows > 4
    assert found.keys() == want.keys()
    for key, posterior in found.items():
        expected = want[key]
        assert [span[:2] for span in posterior.spans] == [span[:2] for span in expected.spans]
        assert [span[2] for span in posterior.spans] == pytest.approx([span[2] for span in expected.spans], rel=1e-5)
        assert posterior.unscored == pytest.approx(expected.unscored, rel=1e-5)
        assert (posterior.num_read, posterior.num_windows) == (document.num_windows,) * 2
        got, decided = decoder.decision.decide(posterior), decoder.decision.decide(expected)
        assert (got.text, got.refusal, got.certified, got.unread) == (
            decided.text,
            decided.refusal,
            decided.certified,
            0,
        )


OPTIONS = ("at 14", "at 7", "never")


def test_options_and_lists_are_those_of_a_document_that_is_read_once(decoder: SpanDecoder) -> None:
    """A choice and a list with a low least probability, in many windows."""
    options, least = {"0": OPTIONS}, {"1": 1e-4}
    want = dict(decoder.read_fields([Document("d", TEXT, tuple(ASKED))], options, least))
    found = opened(decoder, None).posteriors(ASKED, options=options, least=least)
    assert found.keys() == want.keys() >= {"options of 0"}
    for key, expected in want.items():
        assert {span[0] for span in found[key].spans} == {span[0] for span in expected.spans}
        assert sorted(span[2] for span in found[key].spans) == pytest.approx(
            sorted(span[2] for span in expected.spans), rel=1e-5
        )
    plain = opened(decoder, None).posteriors(ASKED)["1"]
    assert len(plain.spans) < len(found["1"].spans), "no more was scored for the list, so nothing is shown"


def test_a_first_look_scores_options_in_the_windows_of_their_question(decoder: SpanDecoder) -> None:
    document = opened(decoder)
    found = document.posteriors(ASKED[:1], options={"0": OPTIONS})
    assert found["0"].num_read == found["options of 0"].num_read < document.num_windows
    whole = document.posteriors(ASKED[:1], options={"0": OPTIONS}, read_all=True)
    assert whole["0"].num_read == whole["options of 0"].num_read == document.num_windows
    assert document.num_computed == document.num_windows


FORMS: dict[str, dict[str, Any]] = {
    "two turns": {"prompt": load_prompt("two_turn")},
    "placeholders": {"reasoning": Reasoning("blah")},
    "free reasoning": {"prompt": load_prompt("json_think"), "reasoning_limit": 4},
}


@pytest.mark.parametrize("form", FORMS)
def test_so_it_does_in_every_form_of_conversation(tokenizer: Any, form: str) -> None:
    """With what stands between a question and its answer: a turn, placeholders, or reasoning."""
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2)
    always = Decision(always_answer=True)  # so that there are spans to compare
    decoder = SpanDecoder(model, tokenizer, effort=Effort(**SMALL), decision=always, **FORMS[form])
    text, asked = TEXT[:140], ASKED[:2]
    want = dict(decoder.posteriors([Document("d", text, tuple(asked))]))
    document = LongDocument(decoder, Document("d", text, ()))
    for _ in range(2):  # read, then from memory
        for key, posterior in document.posteriors(asked).items():
            assert len(posterior.spans) == len(want[key].spans) > 1
            for found, expected in zip(posterior.spans, want[key].spans, strict=True):
                assert found[:2] == expected[:2]
                assert found[2] == pytest.approx(expected[2], rel=1e-5)
    assert document.num_computed == document.num_windows > 1


@pytest.mark.parametrize("look", [LOOK, None])
def test_what_was_asked_or_kept_before_changes_no_bit(decoder: SpanDecoder, look: FirstLook | None) -> None:
    """Asked last in a busy session, first in a new one, with nothing kept in memory, and from a store."""
    last, shelf = ASKED[-1:], Shelf()
    want = opened(decoder, look).posteriors(last)
    busy = opened(decoder, look, store=shelf)
    for question in ASKED[:-1]:
        busy.posteriors([question])
    busy.posteriors(ASKED)
    computed = busy.num_computed
    assert busy.posteriors(last) == want
    assert busy.num_computed == computed, "nothing was read again"
    assert opened(decoder, look, kept_bytes=0).posteriors(last) == want
    stored = opened(decoder, look, store=shelf)
    assert stored.posteriors(last) == want
    assert stored.num_computed == 0


def test_memory_is_bounded(decoder: SpanDecoder) -> None:
    """Without room only the last window stays, so all others are read again."""
    document = opened(decoder, None, kept_bytes=0)
    document.posteriors(ASKED[:1])
    assert document.num_computed == document.num_windows
    document.posteriors(ASKED[:1])
    assert document.num_computed >= 2 * document.num_windows - 1
    roomy = opened(decoder, None)
    roomy.posteriors(ASKED[:1])
    roomy.posteriors(ASKED[:1])
    assert roomy.num_computed == roomy.num_windows


def test_a_first_look_reads_the_nearest_windows_and_says_so(decoder: SpanDecoder) -> None:
    """The question names ferry n, which stands in one of the last windows."""
    shelf = Shelf()
    document = opened(decoder, store=shelf)
    (posterior,) = document.posteriors(ASKED[-1:]).values()
    assert posterior.num_read <= LOOK.max_windows < document.num_windows == posterior.num_windows
    assert document.num_computed == posterior.num_read
    found = decoder.decision.decide(posterior)
    assert 0.0 < found.unread < 1.0
    assert not found.certified
    windows, place = decoder.windows(TEXT), TEXT.index("n leaves")
    (index,) = [i for i, one in enumerate(windows) if one.words[0][0] <= place < one.words[-1][-1]]
    assert index > LOOK.max_windows
    assert decoder.reading(Document("d", TEXT, ()), windows, index).tokens in shelf.kept


def test_reading_stops_when_little_is_left(decoder: SpanDecoder) -> None:
    """With a limit of 1 the first round is enough, whatever it says; with 0 the limit of windows decides."""
    one = opened(decoder, FirstLook(2, 4, 2, max_unread=1.0)).posteriors(ASKED[-1:])["6"]
    all_four = opened(decoder, FirstLook(2, 4, 2, max_unread=0.0)).posteriors(ASKED[-1:])["6"]
    assert (one.num_read, all_four.num_read) == (2, 4)
    assert all_four.unread < one.unread


def test_short_documents_are_read_whole(decoder: SpanDecoder) -> None:
    document = opened(decoder, FirstLook(whole_windows=100))
    (posterior,) = document.posteriors(ASKED[:1]).values()
    assert posterior.num_read == posterior.num_windows == document.num_windows
    assert posterior == next(iter(opened(decoder, None).posteriors(ASKED[:1]).values()))


def test_progress_ends_at_what_was_announced_or_before(decoder: SpanDecoder) -> None:
    calls: list[tuple[int, int]] = []
    opened(decoder, None).posteriors(ASKED[:2], lambda done, total: calls.append((done, total)))
    total = calls[0][1]
    assert calls[0] == (0, total)
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (total, total)
    calls.clear()
    opened(decoder).posteriors(ASKED[-1:], lambda done, total: calls.append((done, total)))
    assert {total for _, total in calls} == {LOOK.max_windows}


def test_ctrl_c_leaves_a_document_that_can_be_asked_again(decoder: SpanDecoder) -> None:
    def interrupt(done: int, _: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    document = opened(decoder, None)
    with pytest.raises(KeyboardInterrupt):
        document.posteriors(ASKED, interrupt)
    before = document.num_computed
    assert document.posteriors(ASKED) == opened(decoder, None).posteriors(ASKED)
    assert 0 < before < document.num_windows
    assert document.num_computed == document.num_windows, "what was read before the interruption stayed"


@pytest.mark.parametrize("backend", ["palmette_sdpa", "palmette_eager", "palmette_flex"])
def test_restored_tokens_are_those_that_were_read(backend: str, tokenizer: Any) -> None:
    """Two windows read one after the other and put back in the other order: a question below each reads the same."""
    model = tiny_llama(torch.float64, backend, vocab_size=len(tokenizer))
    with torch.inference_mode():
        kept, plain = [], []
        for window in ([7, 8, 9], [10, 11]):
            cache = PrefixCache(model, 32)
            root = cache.append([5, 6], -1)
            cache.read([root])
            last = cache.append(window, root)
            cache.read([last])
            kept.append((window, cache.states(2, cache.length)))
            plain.append(cache.read([cache.append([12, 13], last)])[0])
        cache = PrefixCache(model, 32)
        root = cache.append([5, 6], -1)
        with pytest.raises(PackingError, match="not read"):
            cache.restore([7, 8, 9], root, kept[0][1])
        cache.read([root])
        trunks = [cache.restore(window, root, states) for window, states in reversed(kept)]
        got = cache.read([cache.append([12, 13], trunk) for trunk in trunks])
    torch.testing.assert_close(got.flip(0), torch.stack(plain), rtol=1e-9, atol=1e-9)


def test_nothing_was_read_for_no_questions(decoder: SpanDecoder) -> None:
    document = opened(decoder)
    assert document.posteriors([]) == {}
    assert document.num_computed == 0
