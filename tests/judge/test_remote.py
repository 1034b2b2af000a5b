"""A judge behind an endpoint: log-probabilities where the server gives them, else text."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from palmette.endpoint.completion import read_completion
from palmette.endpoint.errors import EndpointError
from palmette.endpoint.settings import Endpoint
from palmette.errors import RunError
from palmette.judge.judging import Pair, judge_cases, judge_pairs
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


def judge_at(server: ChatServer, **settings: Any) -> EndpointJudge:
    return EndpointJudge(Endpoint(server.url, "served", first_backoff=0.01, **settings), load_judge_prompt())


def pairs(number: int) -> list[Case]:
    return [Case((f"When {n}?",), (("nine",), ("ten",))) for n in range(number)]


def test_a_verdict_is_the_sum_of_its_tokens() -> None:
    """0.4 and 0.2 for A, 0.1 for B, 0.1 for tie, and 0.2 for none: 6, 1 and 1 of 8."""
    body = Act(body=json.dumps(alternatives(A=0.4, _A=0.2, B=0.1, tie=0.1, The=0.2)).encode())
    with ChatServer(lambda _: body) as server:
        ((_, odds),) = judge_at(server).odds([PAIR])
    assert odds == pytest.approx({"A": 0.75, "B": 0.125, "tie": 0.125})
    sent = server.asked[0]
    assert (sent["logprobs"], sent["max_tokens"], sent["temperature"]) == (True, 1, 0.0)


def test_a_token_that_begins_one_verdict_stands_for_it() -> None:
    """Without a token "tie" its mass is that of "t": 0.2 of 0.8. "" begins all verdicts, and so none."""
    body = Act(body=json.dumps(alternatives(A=0.5, t=0.2, B=0.1, _=0.1)).encode())
    with ChatServer(lambda _: body) as server:
        ((_, odds),) = judge_at(server).odds([PAIR])
    assert odds == pytest.approx({"A": 0.625, "B": 0.125, "tie": 0.25})


@pytest.mark.parametrize("refused", [True, False])
def test_without_log_probabilities_the_text_is_read(refused: bool) -> None:
    """`transformers serve` refuses the request with status 422. Others ignore the parameter.

    Of twelve requests one after the other three are tried, and no others are sent for tokens.
    """

    def answer(request: dict[str, Any]) -> Act:
        if refused and "logprobs" in request:
            return fails(422, "logprobs is not supported")
        return says("B is right.\nVerdict: B")

    with ChatServer(answer) as server:
        judge = judge_at(server, concurrency=1)
        found = dict(judge.odds(pairs(12)))
    assert found == {n: {"A": 0.0, "B": 1.0, "tie": 0.0} for n in range(12)}
    assert judge.from_text == 12
    tried = sum("logprobs" in request for request in server.asked)
    assert 3 <= tried <= 5  # one or two more may be under way
    assert len(server.asked) == tried + 12
    assert judge.notes == ["Verdicts read from text, for want of log-probabilities: 12."]


def test_one_refused_request_leaves_the_others_to_their_tokens() -> None:
    """The first of five is too long for the server with log-probabilities. The others are asked once."""

    def answer(request: dict[str, Any]) -> Act:
        if "logprobs" not in request:
            return says("B")
        if "When 0?" in str(request):
            return fails(400, "too long")
        return Act(body=json.dumps(alternatives(A=0.6, B=0.4)).encode())

    with ChatServer(answer) as server:
        judge = judge_at(server, concurrency=1)
        found = dict(judge.odds(pairs(5)))
    assert found[0] == {"A": 0.0, "B": 1.0, "tie": 0.0}
    assert [found[n] for n in range(1, 5)] == [pytest.approx({"A": 0.6, "B": 0.4, "tie": 0.0})] * 4
    assert (len(server.asked), judge.from_text) == (6, 1)


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


def test_a_request_refused_for_good_is_an_unread_verdict(tmp_path: Path) -> None:
    """Of three grades one is refused. 22 prompt and 14 completion tokens were paid, at 1 and 2 a million."""
    cases = [SINGLE, Case(("When?",), (("eleven",),)), Case(("When?",), (("ten",),))]
    with ChatServer(lambda request: fails(400, "too long") if "eleven" in str(request) else says("7")) as server:
        judge = judge_at(server, concurrency=1, price_in=1e6, price_out=2e6)
        assert judge_cases(judge, cases, tmp_path / "store") == [{"7": 1.0}, None, {"7": 1.0}]
        assert (judge.refusals, judge.failures) == (1, 0)
        refused, cost = judge.notes
        assert refused.startswith("Requests refused, which count as unread: 1, the last: the server refuses")
        assert cost == "Cost: 50.0000."
        asked = len(server.asked)
        judge_cases(judge_at(server), cases, tmp_path / "store")
        assert len(server.asked) == asked


def test_many_refused_requests_do_not_end_the_job_of_a_server_that_answers() -> None:
    """Twelve of thirteen are too long. The client gives up after eight refusals where nothing else was answered."""

    def answer(request: dict[str, Any]) -> Act:
        if "When 0?" not in str(request):
            return fails(400, "too long")
        return Act(body=json.dumps(alternatives(A=1.0)).encode())

    with ChatServer(answer) as server:
        judge = judge_at(server, concurrency=1)
        found = dict(judge.odds(pairs(13)))
    assert found == {0: {"A": 1.0, "B": 0.0, "tie": 0.0}, **{n: {} for n in range(1, 13)}}
    assert judge.refusals == 12


def test_the_refusals_of_a_server_that_refuses_everything_are_not_kept(tmp_path: Path) -> None:
    cases = [Case((f"When {n}?",), (("nine",),)) for n in range(20)]
    with ChatServer(lambda _: fails(400, "no chat template")) as server:
        with pytest.raises(EndpointError, match=r"8 requests in a row failed.*no chat template"):
            judge_cases(judge_at(server), cases, tmp_path / "store")
        server.answer = lambda _: says("7")
        assert judge_cases(judge_at(server), cases, tmp_path / "store") == [{"7": 1.0}] * 20


def test_verdicts_without_an_answer_end_the_job_and_are_asked_again(tmp_path: Path) -> None:
    """A server is too busy for one of two pairs, in both orders. Only these are asked when it is not."""
    busy, given = [True], [Pair(str(n), ("elm", "fir"), case) for n, case in enumerate(pairs(2))]

    def answer(request: dict[str, Any]) -> Act:
        if busy[0] and "When 1?" in str(request):
            return fails(503, "busy")
        return Act(body=json.dumps(alternatives(A=1.0)).encode())

    with ChatServer(answer) as server:
        judge = judge_at(server, max_retries=0, concurrency=1)
        with pytest.raises(RunError, match=r"2 of 4 verdicts got no answer.*: busy\. Give the same command again"):
            judge_pairs(judge, given, tmp_path / "store")
        assert judge.failures == 2
        busy[0], asked = False, len(server.asked)
        found = judge_pairs(judge_at(server), given, tmp_path / "store")
        assert len(server.asked) == asked + 2
    assert [one.share for one in found] == [0.5, 0.5]


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
