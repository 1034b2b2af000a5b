"""The benchmarks of the server: what they ask, and what they make of the figures."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from palmette.data.records import Answer, Document, Question
from palmette.tasks.qa_prompt import load_prompt
from tests.support.scripts import benchmark_scripts

NAMES = ("rivals", "servers", "serve", "soak")


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The modules."""
    with benchmark_scripts(NAMES) as modules:
        yield modules


def paragraph(number: int) -> Document:
    questions = tuple(
        Question(f"{number}-{one}", f"What is {number}-{one}?", (Answer(f"A{number}", 0),)) for one in "ab"
    )
    return Document(str(number), f"A{number} stands here.", questions)


def test_one_document_holds_all_that_is_asked(bench: SimpleNamespace) -> None:
    """Three questions need two paragraphs of two questions each."""
    left = iter([paragraph(number) for number in range(3)])
    asked = bench.serve.workload(left, load_prompt("plain"), "one document", 3)
    texts = {
        one.messages[-1].text if hasattr(one.messages[-1], "text") else one.messages[-1]["content"] for one in asked
    }
    assert len(texts) == 3
    assert all("A0 stands here.\n\nA1 stands here." in text for text in texts)
    assert [one.right for one in asked] == [("A0",), ("A0",), ("A1",)]
    assert next(left).id == "2"


def test_different_documents_are_asked_once_each(bench: SimpleNamespace) -> None:
    left = iter([Document("none", "Nothing is asked here.", ()), *(paragraph(number) for number in range(3))])
    asked = bench.serve.workload(left, load_prompt("plain"), "different documents", 2)
    assert [one.right for one in asked] == [("A0",), ("A1",)]
    with pytest.raises(SystemExit, match="too few documents"):
        bench.serve.workload(left, load_prompt("plain"), "different documents", 2)


def test_times_compare_servers_in_the_same_round(bench: SimpleNamespace) -> None:
    """Ours has 2, 4 and 12 questions a second, the other 1, 1 and 4: 2, 4 and 3 times."""
    rates = {"ours": (2.0, 4.0, 12.0), "other": (1.0, 1.0, 4.0)}
    turns = [
        bench.serve.Turn(server, "one document", 1, number, rate, 0.5, 1.5, 3, 1.0)
        for server, values in rates.items()
        for number, rate in enumerate(values)
    ]
    head, _, ours, other = bench.serve.table(turns, 4)
    assert head.count("|") == ours.count("|") == other.count("|")
    assert ours.endswith("| ours | 4.00 (2.00 to 12.00) | 0.50 | 1.50 | 75% | 1.00 (1.00 to 1.00) |")
    assert other.endswith("| other | 1.00 (1.00 to 4.00) | 0.50 | 1.50 | 75% | 3.00 (2.00 to 4.00) |")


def test_memory_is_told_by_tenths_and_by_its_slope(bench: SimpleNamespace) -> None:
    """100 MiB in the first half, then 6 MiB a minute more."""
    seen = [(10.0 * index, 100.0 + max(0, index - 50)) for index in range(100)]
    tenths = bench.soak.by_tenths(seen)
    assert len(tenths) == 10
    assert tenths[0] == tenths[4] == 100.0
    assert tenths[9] == pytest.approx(144.5, abs=1.0)
    assert bench.soak.slope(seen) == pytest.approx(6.0, abs=0.1)
    assert bench.soak.slope([(one, 7.0) for one in range(10)]) == 0.0


@pytest.mark.parametrize(
    ("body", "reply", "whole"),
    [
        ({"questions": ["a", "b"]}, b'{"answers": [1, 2]}', True),
        ({"questions": ["a", "b"]}, b'{"answers": [1]}', False),
        ({"messages": []}, b'{"choices": [{"message": {"content": "7:40"}}]}', True),
        ({"messages": []}, b'{"choices": [{"message": {"content": ""}}]}', False),
        ({"stream": True}, b'data: {"choices": [{"finish_reason": "stop"}]}\n\ndata: [DONE]\n\n', True),
        ({"stream": True}, b'data: {"choices": [{"finish_reason": null}]}\n\ndata: [DONE]\n\n', False),
        ({"stream": True}, b'data: {"choices": [{"finish_reason": "stop"}]}\n\n', False),
    ],
)
def test_a_reply_is_whole_or_the_request_is_lost(
    bench: SimpleNamespace, body: dict[str, object], reply: bytes, whole: bool
) -> None:
    assert bench.soak.is_whole(body, reply) is whole
