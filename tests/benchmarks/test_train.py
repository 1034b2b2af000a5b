"""The benchmark of fine-tuning: what it trains on, how it cuts steps for TRL, and what it makes of the figures."""

from __future__ import annotations

import doctest
import importlib
import itertools
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, PreTrainedTokenizerFast

from palmette.data.records import Answer, Document, Question
from palmette.data.source import read_source
from palmette.data.squad import dump_squad
from palmette.tree.prefix_tree import Node, PrefixTree, lay_out
from palmette.tree.segments import Segment
from tests.support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"
NAMES = ("counts", "match", "memory", "peers", "settings", "sweeps", "train", "workload")


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The benchmark's modules, which import each other as scripts do."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.mark.parametrize("name", NAMES)
def test_examples_in_docstrings(bench: SimpleNamespace, name: str) -> None:
    module: ModuleType = getattr(bench, name)
    assert Path(str(module.__file__)).parent == BENCHMARKS
    assert doctest.testmod(module).failed == 0


# What is trained on


def document(name: str, num_questions: int) -> Document:
    text = f"The tower of {name} is granite."
    start = text.index("granite")
    return Document(
        name,
        text,
        tuple(Question(f"{name}-{i}", f"Of what, {i}?", (Answer("granite", start),)) for i in range(num_questions)),
        name,
    )


def texts(documents: list[Document]) -> list[tuple[str, list[str]]]:
    return [(d.id, [q.text for q in d.questions]) for d in documents]


def test_questions_are_new_until_there_are_no_more(bench: SimpleNamespace, tmp_path: Path) -> None:
    """a has 3 questions, b 2. One each: first a0, b0, then a1, b1, then a2."""
    some = [document("a", 3), document("b", 2)]
    found = bench.workload.with_questions(some, 5, 1)
    asked = [("a", ["Of what, 0?"]), ("b", ["Of what, 0?"]), ("a", ["Of what, 1?"]), ("b", ["Of what, 1?"])]
    assert texts(found) == [*asked, ("a", ["Of what, 2?"])]
    text = "The tower of {} is granite."
    assert [d.text for d in found] == [
        text.format("a"),
        text.format("b"),
        *("2. " + text.format(n) for n in "ab"),
        "3. " + text.format("a"),
    ]
    file = tmp_path / "train.json"
    file.write_text(dump_squad(tuple(found)), encoding="utf-8")
    assert read_source(str(file)).num_questions == 5  # which refuses ids that occur twice, and answers at a wrong place


def test_questions_are_asked_twice_only_for_want_of_others(
    bench: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two documents with 3 questions or more only one exists, so b is asked its 2 and the first again."""
    some = [document("a", 4), document("b", 2), document("c", 1)]
    found = bench.workload.with_questions(some, 2, 3)
    assert texts(found) == [("a", [f"Of what, {i}?" for i in (0, 1, 2)]), ("b", [f"Of what, {i}?" for i in (0, 1, 0)])]
    assert len({q.id for d in found for q in d.questions}) == 6
    assert "twice" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="8 documents are needed, 3 with"):
        bench.workload.with_questions(some, 8, 1)


def test_held_out_documents_are_not_trained_on(bench: SimpleNamespace, tokenizer: PreTrainedTokenizerFast) -> None:
    some = [document(name, count) for name, count in zip("abcdef", (1, 2, 0, 3, 4, 5), strict=True)]
    task = bench.workload.Workload(tokenizer, some, 2)
    trained = task.documents(3, 0)
    assert [len(d.questions) for d in task.held_out] == [1, 3]
    assert [len(d.questions) for d in trained] == [2, 4, 5]  # with all their questions; c has none
    assert {d.id for d in task.documents(5, 1)} == {d.id for d in trained}


def tree() -> PrefixTree:
    """A trunk of two tokens, and two branches: [3 | 4 learned], and [5 | 6, 7 learned]."""
    branches = tuple(
        Node((Segment((question,)), Segment(answer, learn=1.0))) for question, answer in ((3, (4,)), (5, (6, 7)))
    )
    return PrefixTree(Node((Segment((1, 2)),), branches), "t")


def test_both_sides_train_on_the_same_rows(bench: SimpleNamespace) -> None:
    rows = [((1, 2, 3, 4), (-100, -100, -100, 4)), ((1, 2, 5, 6, 7), (-100, -100, -100, 6, 7))]
    assert bench.counts.tree_rows(tree()) == rows
    assert list(bench.counts.layout_rows(lay_out(tree()))) == rows
    other = PrefixTree(
        Node((Segment((1, 2)), Segment((8,)), Segment((9,), learn=1.0))), "u"
    )  # begins with the same segment
    packed = bench.counts.layout_rows(lay_out(tree(), other))
    assert sorted(packed) == sorted([*rows, ((1, 2, 8, 9), (-100, -100, -100, 9))])
    digest = bench.counts.rows_sha256
    assert digest(rows) == digest(reversed(rows)) != digest([rows[0], ((1, 2, 5, 6, 7), (-100,) * 4 + (7,))])


def test_what_a_step_holds(bench: SimpleNamespace) -> None:
    """The tree has 7 tokens at positions 0 1 | 2 3 | 2 3 4: 1+2+3+4+3+4+5 = 22 pairs. Rows of 4 and 5 have 10 + 15."""
    learned = {"questions": 2, "learned": 3}
    assert bench.counts.count_layouts([lay_out(tree())]) == {**learned, "tokens": 7, "pairs": 22}
    assert bench.counts.count_rows(bench.counts.tree_rows(tree())) == {**learned, "tokens": 9, "pairs": 25}


# How steps are cut for TRL


@pytest.mark.parametrize("name", ["padded_cost", "joined_cost"])
def test_a_step_is_cut_at_the_least_cost(bench: SimpleNamespace, name: str) -> None:
    """Against all ways to cut."""
    cost, generator, seen = getattr(bench.counts, name), random.Random(0), set()
    for _ in range(40):
        lengths = sorted((generator.randint(1, 20) for _ in range(generator.randint(1, 8))), reverse=True)
        num, most = generator.randint(1, 4), generator.randint(1, 5)
        ways = [sizes for sizes in itertools.product(range(1, most + 1), repeat=num) if sum(sizes) == len(lengths)]
        seen.add(min(len(ways), 2))
        if not ways:
            with pytest.raises(ValueError, match="cannot be cut"):
                bench.counts.cut(lengths, num, most, cost)
            continue

        def total(sizes: Any, lengths: list[int] = lengths) -> int:
            ends = list(itertools.accumulate(sizes))
            return sum(cost(lengths[end - size : end]) for size, end in zip(sizes, ends, strict=True))

        found = bench.counts.cut(lengths, num, most, cost)
        assert tuple(found) in ways
        assert total(found) == min(map(total, ways))
    assert seen == {0, 1, 2}


def test_every_step_has_as_many_micro_batches(bench: SimpleNamespace) -> None:
    """Steps of 5, 3 and 6 examples, two at most: three micro-batches each, as the largest step needs."""
    steps = [[9, 9, 8, 4, 4], [7, 7, 7], [6, 6, 5, 5, 5, 5]]
    batches = bench.peers.micro_batches(steps, "padded", 2)
    assert batches == [[0, 1], [2], [3, 4], [5], [6], [7], [8, 9], [10, 11], [12, 13]]
    with pytest.raises(SystemExit, match=r"\[3, 5, 6\] questions cannot all be cut into 6"):
        bench.peers.micro_batches(steps, "padded", 1)


def test_settings_that_cannot_be(bench: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """18 questions at most, 3 at least: in 1 to 3 micro-batches, so of 18, 9 or 6 and what lies between."""
    limits = bench.settings.Limits(fewest=3, most=18, longest=100, memory_tokens=1000)
    assert limits.check("padded:7") == "padded:7"
    assert capsys.readouterr().out == ""
    assert limits.check("free:12") == "free:10"
    assert "free:12 becomes free:10: more than 1000 tokens would not fit" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="Give padded:6 to padded:9"):
        limits.check("padded:5")
    roomy = bench.settings.Limits(fewest=3, most=18, longest=100, memory_tokens=10_000)
    assert roomy.check("padded:30") == "padded:18"
    assert "a step has at most 18 questions" in capsys.readouterr().out
    cramped = bench.settings.Limits(fewest=3, most=18, longest=1001, memory_tokens=1000)
    assert cramped.worth_a_try(4096) == []
    with pytest.raises(SystemExit, match="shorter or fewer documents"):
        cramped.check("padded:6")


def test_memory_of_a_token(bench: SimpleNamespace) -> None:
    """2 layers x (14 x 10 + 9 x 30) x 2 bytes + 8 x 4 bytes x 100 = 1640 + 3200."""
    sizes = {"num_hidden_layers": 2, "hidden_size": 10, "intermediate_size": 30, "vocab_size": 100}
    config = LlamaConfig(num_attention_heads=1, **sizes)
    assert bench.settings.bytes_per_token(config, torch.bfloat16) == 4840


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--trl", "padded:0"], "none of auto, padded:N and free:N"),
        (["--trl", "packed:4"], "none of auto, padded:N and free:N"),
        (["--documents", "0"], "no whole number from 1 on"),
        (["--questions-per-document", "-1"], "0, for all"),
        (["--values", "1"], "give --sweep with one name"),
        (["--sweep", "length", "branch", "--values", "1"], "give --sweep with one name"),
        (["--plot", "a.png"], "give --sweep"),
        (["--palmette-only", "--trl", "free:2"], "leaves TRL out"),
    ],
)
def test_options_that_make_no_sense(
    bench: SimpleNamespace,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", *words])
    with pytest.raises(SystemExit) as caught:
        bench.train.arguments()
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


# What is made of the figures


def result(bench: SimpleNamespace, *seconds: float) -> Any:
    """Turns of 12 questions and 60 tokens that took so many seconds."""
    return bench.match.Result(1.0, [{"seconds": s, "questions": 12, "tokens": 60} for s in seconds])


def test_the_headline(bench: SimpleNamespace) -> None:
    """Rates 12, 6, 4 and 1, 0.5, 2: medians 6 and 1, so 6; turn by turn 12, 12, 2."""
    sides = {"palmette": result(bench, 1, 2, 3), "padded:4": result(bench, 12, 24, 6)}
    said = bench.train.headline(sides, "padded:4").splitlines()
    assert said[-1] == "ratio 6.0"
    assert "Palmette over TRL padded:4" in said[0]
    assert "medians of 3 turns; turn by turn 2.0 to 12.0" in said[0]
    assert bench.train.headline(sides, None).splitlines()[-1] == "questions/s 6.00"


@pytest.mark.parametrize(("loss", "agrees"), [(1.049, True), (1.051, False), (0.9, False), (float("nan"), False)])
def test_losses_must_agree(bench: SimpleNamespace, loss: float, agrees: bool) -> None:
    """From 2 to 1 nats: a twentieth is 0.05."""
    losses = {"palmette": 1.0, "padded:4": loss}
    if agrees:
        bench.train.check_losses(2.0, losses)
    else:
        with pytest.raises(SystemExit, match="have not learned the same"):
            bench.train.check_losses(2.0, losses)


def point(value: int, palmette: float, trl: float | None) -> dict[str, Any]:
    sides = [palmette, trl]
    return {"value": value, "setting": trl and "padded:1", "tokens": sides, "rates": sides, "costs": sides}


def test_a_sweep_with_gaps(bench: SimpleNamespace) -> None:
    points = [point(1, 2.0, 3.0), point(2, 5.0, None)]
    assert bench.sweeps.line(points[1]) == "| 2 | 5 | - | - | 5.00 | - | - | 5 | - |"
    assert bench.sweeps.growth(points) == "dearest token over cheapest: Palmette 2.50, TRL 1.00"


def test_points_of_several_files_are_put_together(
    bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("b", 8), ("a", 1)):
        swept = {"questions": [point(value, 2.0, 3.0 if value == 1 else None)]}
        (tmp_path / f"{name}.json").write_text(json.dumps({"swept": swept}))
    out = tmp_path / "plot.png"
    drawn: dict[str, Any] = {}
    draw = bench.sweeps.plot
    monkeypatch.setattr(bench.sweeps, "plot", lambda path, swept: (drawn.update(swept), draw(path, swept)))
    monkeypatch.setattr(sys, "argv", ["sweeps.py", *(str(tmp_path / f"{name}.json") for name in "ba"), str(out)])
    bench.sweeps.main()
    assert sorted(found["value"] for found in drawn["questions"]) == [1, 8]
    assert out.read_bytes().startswith(b"\x89PNG")


def run_of(folder: Path, *steps: tuple[float, int]) -> Path:
    """A run folder whose steps ended after so many minutes with so many MiB."""
    lines = [
        {"step": number, "seconds": 60 * minutes, "resident_mib": mib} for number, (minutes, mib) in enumerate(steps, 1)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_growth_of_memory(
    bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From 1000 MiB, at the first step after minute 3, to 1030: 3 %.

    What came before does not count; minute 30 was not reached.
    """
    run = run_of(tmp_path, (1, 2000), (2.9, 700), (3.5, 1000), (9, 1100), (10, 1020), (21, 1010), (25, 1030))
    out = tmp_path / "memory.png"
    monkeypatch.setattr(sys, "argv", ["memory.py", str(run), "--plot", str(out)])
    bench.memory.main()
    said = capsys.readouterr().out.splitlines()
    assert said[2:7] == [
        "| minute 3 | 3.5 | 3 | 1000 |",
        "| minute 10 | 10.0 | 5 | 1020 |",
        "| minute 20 | 21.0 | 6 | 1010 |",
        "| most from minute 3 on | 9.0 | 4 | 1100 |",
        "| the end | 25.0 | 7 | 1030 |",
    ]
    assert said[-1] == "growth 3.0 %"
    assert out.read_bytes().startswith(b"\x89PNG")


def test_a_run_too_short_for_memory(bench: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["memory.py", str(tmp_path)])
    with pytest.raises(SystemExit, match="there is no"):
        bench.memory.main()
    run_of(tmp_path)
    with pytest.raises(SystemExit, match="the run has no step"):
        bench.memory.main()
    run_of(tmp_path, (1, 500), (2.9, 600))
    with pytest.raises(SystemExit, match=r"the run has 2\.9 minutes"):
        bench.memory.main()
