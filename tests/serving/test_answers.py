"""Documents and answers over HTTP: what is answered, in how many calls, and what is kept."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from palmette.data.records import Document, Question
from palmette.decode.span_decoder import SpanDecoder
from tests.support.serving import Serving, answerer_of, serving
from tests.support.span_decoding import LEARNED, TEXT

LONG = " ".join(f"The ferry {i} leaves at {i * 7 % 60}." for i in range(900))


def test_answers_are_those_of_the_decoder(served: Serving, fitted_model: Any, tokenizer: Any) -> None:
    """The decoder reads document and questions together, in another way than the server: in float64 the same."""
    found = served.answers(TEXT, *LEARNED)
    decoder = SpanDecoder(fitted_model, tokenizer)
    document = Document("d", TEXT, tuple(Question(question, question) for question in LEARNED))
    want = dict(decoder.predict([document]))
    assert [one["question"] for one in found] == list(LEARNED)
    for one in found:
        expected = want[one["question"]]
        assert one["answer"] == (expected.text or None)
        assert one["answer"] == (None if LEARNED[one["question"]] == "?" else LEARNED[one["question"]])
        assert (one["start"], one["end"], one["certified"]) == (expected.start, expected.end, expected.certified)
        assert one["probability"] == pytest.approx(expected.probability, abs=1e-6)
        assert one["no_answer_probability"] == pytest.approx(expected.no_answer_probability, abs=1e-6)
        assert [each["text"] for each in one["candidates"]] == [each.text for each in expected.candidates[:3]]


def test_a_document_is_sent_once_and_named_by_its_id(served: Serving) -> None:
    kept = served.client.post("/v1/documents", json={"text": TEXT}).json()
    assert kept == served.client.post("/v1/documents", json={"text": TEXT}).json()
    assert kept["characters"] == len(TEXT)
    assert kept["id"] != served.client.post("/v1/documents", json={"text": TEXT + " "}).json()["id"]
    by_id = {"document_id": kept["id"], "questions": ["Who?"]}
    assert served.client.post("/v1/answers", json=by_id).json()["answers"] == served.answers(TEXT, "Who?")
    assert served.client.get(f"/v1/documents/{kept['id']}").json() == kept
    assert served.client.delete(f"/v1/documents/{kept['id']}").json()["deleted"]
    for gone in (
        served.client.get(f"/v1/documents/{kept['id']}"),
        served.client.delete(f"/v1/documents/{kept['id']}"),
        served.client.post("/v1/answers", json=by_id),
    ):
        assert gone.status_code == 404
        assert gone.json()["error"]["code"] == "document_not_found"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"questions": ["Who?"]}, "document or document_id"),
        ({"document": TEXT, "document_id": "doc-1", "questions": ["Who?"]}, "document or document_id"),
        ({"document": " ", "questions": ["Who?"]}, "empty"),
        ({"document": TEXT, "questions": []}, "questions"),
        ({"document": TEXT, "questions": ["Who?", " "]}, "has no text"),
        ({"document": TEXT, "questions": ["Who?"], "model": "other"}, "Served are: tiny"),
        ({"document": TEXT, "questions": ["Who?"], "n": 2}, "n is 2"),
        ({"document": "\\ud800", "questions": ["Who?"]}, ""),
    ],
)
def test_bad_requests_are_refused_in_words(served: Serving, body: dict[str, Any], said: str) -> None:
    refused = served.client.post("/v1/answers", json=body)
    if body.get("document") == "\\ud800":  # as JSON writes half a character. The client cannot write it itself
        raw = b'{"document": "\\ud800", "questions": ["Who?"]}'
        refused = served.client.post("/v1/answers", content=raw, headers={"Content-Type": "application/json"})
    assert refused.status_code in (400, 404)
    assert said in refused.json()["error"]["message"]


def test_questions_that_wait_share_one_call_and_each_gets_its_own_answers(served: Serving) -> None:
    served.reader.hold.clear()
    with ThreadPoolExecutor(3 + len(LEARNED)) as pool:
        first = pool.submit(served.answers, "Another document.", "Who?")
        assert served.reader.begun.wait(60)
        waiting = [pool.submit(served.answers, TEXT, *pair) for pair in (("Who?", "Where from?"), ("Where from?",))]
        waiting += [pool.submit(served.answers, TEXT, question) for question in LEARNED]
        served.waits_for(2 + len(LEARNED))
        served.reader.hold.set()
        found = [one.result() for one in (first, *waiting)]
    assert [[one["question"] for one in answers] for answers in found[1:3]] == [
        ["Who?", "Where from?"],
        ["Where from?"],
    ]
    for question, answers in zip(LEARNED, found[3:], strict=True):
        assert [one["question"] for one in answers] == [question]
        assert answers[0]["answer"] == (None if LEARNED[question] == "?" else LEARNED[question])
    assert len(served.reader.asked) == 2
    assert len(served.reader.asked[1]) == 3 + len(LEARNED)
    assert served.metric("batches_total") == 2
    assert served.metric("questions_total") == 4 + len(LEARNED)


def test_one_bad_question_takes_no_other_with_it(served: Serving) -> None:
    served.reader.hold.clear()
    with ThreadPoolExecutor(3) as pool:
        pool.submit(served.answers, "Another document.", "Who?")
        assert served.reader.begun.wait(60)
        bad = pool.submit(served.client.post, "/v1/answers", json={"document": TEXT, "questions": ["why " * 9000]})
        good = pool.submit(served.answers, TEXT, "Where from?")
        served.waits_for(2)
        served.reader.hold.set()
        assert good.result()[0]["answer"] == "pier 3"
        assert bad.result().status_code == 400
        assert "Shorten the question" in bad.result().json()["error"]["message"]


def test_a_long_document_gets_a_first_look_unless_all_is_asked_for(served: Serving) -> None:
    looked, read = (served.answers(LONG, "When does ferry 880 leave?", read_all=flag)[0] for flag in (False, True))
    assert looked["num_read"] < looked["num_windows"]
    assert 0 < looked["unread"] < 1
    assert read["num_read"] == read["num_windows"] == looked["num_windows"] > 4
    assert read["unread"] == 0


def test_what_was_read_stays_up_to_a_number_of_tokens(
    fitted_model: Any, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two texts have about 90 tokens each, so one fits and two do not."""
    num_tokens = len(tokenizer(TEXT)["input_ids"])
    other = TEXT.replace("ferry", "train")
    read: list[int] = []
    with serving({"tiny": answerer_of(fitted_model, tokenizer)}, kept_tokens=3 * num_tokens // 2) as served:
        asking = served.model.answerer.span_decoder().asking
        plain = type(asking).read

        def counted(self: Any, cache: Any, tokens: Any) -> Any:
            read.append(len(tokens))
            return plain(self, cache, tokens)

        monkeypatch.setattr(type(asking), "read", counted)
        first = served.answers(TEXT, "Where from?")
        assert served.answers(TEXT, "Where from?") == first
        assert len(read) == 1
        assert served.metric("kept_tokens") == pytest.approx(num_tokens, abs=10)
        served.answers(other, "Where from?")
        assert served.answers(TEXT, "Where from?") == first
        assert len(read) == 3
        assert served.metric("kept_tokens") <= 3 * num_tokens // 2


def test_several_models_are_told_apart(fitted_model: Any, tokenizer: Any) -> None:
    answerers = {name: answerer_of(fitted_model, tokenizer) for name in ("one", "two")}
    with serving(answerers) as served:
        body = {"document": TEXT, "questions": ["Where from?"]}
        refused = served.client.post("/v1/answers", json=body)
        assert refused.status_code == 404
        assert "Served are: one, two" in refused.json()["error"]["message"]
        for name in answerers:
            assert served.client.post("/v1/answers", json={**body, "model": name}).json()["model"] == name


def test_nobody_is_answered_before_the_models_are_loaded(fitted_model: Any, tokenizer: Any) -> None:
    hold = threading.Event()
    with serving({"tiny": answerer_of(fitted_model, tokenizer)}, hold=hold) as served:
        body = {"document": TEXT, "questions": ["Who?"]}
        for early in (
            served.client.get("/health"),
            served.client.get("/v1/models"),
            served.client.post("/v1/answers", json=body),
        ):
            assert early.status_code == 503
            assert early.headers["retry-after"] == "5"
        hold.set()
        while served.client.get("/health").status_code == 503:
            pass
        assert served.client.post("/v1/answers", json=body).status_code == 200
