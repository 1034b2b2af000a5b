"""A judge behind an endpoint: log-probabilities where the server gives them, else text."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from palmette.endpoint.completion import read_completion
from palmette.endpoint.settings import Endpoint
from palmette.judge.remote import EndpointJudge
from palmette.judge.spec import estimate, read_judge
from palmette.judge.wording import Case, load_judge_prompt
from tests.support.chat_server import Act, ChatServer, completion, fails, says

PAIR = Case(("When?",), (("nine",), ("ten",)))
SINGLE = Case(("When?",), (("nine",),))


def alternatives(**tokens: float) -> dict[str, Any]:
    """A completion whose first token has these probabilities. "_" stands for a blank."""
    listed = [{"token": token.replace("_", " "), "logprob": math.log(p)} for token, p in tokens.items()]
    value = completion("A")
    value["choices"][0]["logprobs"] = {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": listed}]}
    return value


def judge_at(server: ChatServer) -> EndpointJudge:
    return EndpointJudge(Endpoint(server.url, "served", first_backoff=0.01), load_judge_prompt())


def test_a_verdict_is_the_sum_of_its_tokens() -> None:
    """0.4 and 0.2 for A, 0.1 for B, 0.1 for tie, and 0.2 for none: 6, 1 and 1 of 8."""
    body = Act(body=json.dumps(alternatives(A=0.4, _A=0.2, B=0.1, tie=0.1, The=0.2)).encode())
    with ChatServer(lambda _: body) as server:
        ((_, odds),) = judge_at(server).odds([PAIR])
    assert odds == pytest.approx({"A": 0.75, "B": 0.125, "tie": 0.125})
    sent = server.asked[0]
    assert (sent["logprobs"], sent["max_tokens"], sent["temperature"]) == (True, 1, 0.0)


@pytest.mark.parametrize("refused", [True, False])
def test_without_log_probabilities_the_text_is_read(refused: bool) -> None:
    """`transformers serve` refuses the request with status 422. Others ignore the parameter."""

    def answer(request: dict[str, Any]) -> Act:
        if refused and "logprobs" in request:
            return fails(422, "logprobs is not supported")
        return says("B is right.\nVerdict: B")

    with ChatServer(answer) as server:
        judge = judge_at(server)
        found = dict(judge.odds([PAIR, PAIR.exchanged()]))
    assert found == {0: {"A": 0.0, "B": 1.0, "tie": 0.0}, 1: {"A": 0.0, "B": 1.0, "tie": 0.0}}
    assert judge.used_text
    assert [request.get("max_tokens") for request in server.asked] == [1, 512, 512]


def test_tokens_that_are_no_verdicts_lead_to_the_text() -> None:
    def answer(request: dict[str, Any]) -> Act:
        value = alternatives(The=0.9, A=0.1) if "logprobs" in request else completion("I cannot say.")
        return Act(body=json.dumps(value).encode())

    with ChatServer(answer) as server:
        ((_, odds),) = judge_at(server).odds([PAIR])
    assert odds == {}  # unread, and not A


def test_grades_are_read_from_text() -> None:
    """One token cannot tell 1 from 10."""
    with ChatServer(lambda _: says("8")) as server:
        ((_, odds),) = judge_at(server).odds([SINGLE])
    assert odds == {"8": 1.0}
    assert "logprobs" not in server.asked[0]


def test_a_request_that_fails_is_no_verdict_and_is_counted() -> None:
    with ChatServer(lambda request: fails(400, "too long") if "eleven" in str(request) else says("7")) as server:
        judge = judge_at(server)
        found = dict(judge.odds([SINGLE, Case(("When?",), (("eleven",),))]))
    assert found == {0: {"7": 1.0}, 1: None}
    assert judge.failures == 1


def test_damaged_log_probabilities_count_as_missing() -> None:
    value = completion("A")
    value["choices"][0]["logprobs"] = {"content": [{"top_logprobs": [{"token": "A"}]}]}
    assert read_completion(json.dumps(value).encode()).first == ()


def test_an_estimate_asks_nothing(tmp_path: Any) -> None:
    path = tmp_path / "judge.yaml"
    path.write_text("endpoint: {url: 'http://127.0.0.1:1/v1', model: served, price_in: 2.0, price_out: 4.0}\n")
    spec = read_judge(str(path))
    found = estimate(spec, [PAIR, PAIR.exchanged()])
    text = "".join(piece.text for message in spec.prompt.messages(PAIR) for piece in message.pieces)
    assert found.tokens == pytest.approx(2 * len(text) / 4, abs=1)
    assert found.cost == pytest.approx((found.tokens * 2.0 + 2 * 4.0) / 1e6)
