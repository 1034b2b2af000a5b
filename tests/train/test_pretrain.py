"""`train pretrain`: the loss is that of transformers, packed or not, the budget is exact, and a stream is resumed where
it was left.
"""

from __future__ import annotations

import json
import math
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from palmette.config.recipes import read_section
from palmette.corpus.sources import open_source
from palmette.corpus.texts import Text
from palmette.errors import DataError, RecipeError
from palmette.tasks.text_pieces import TextPieces, num_learned
from palmette.train.recipes.texts import PretrainRecipe
from palmette.train.run import resume, train
from palmette.train.steps.callbacks import TrainingInterrupted
from palmette.train.steps.step import nll_objective
from palmette.train.texts.plan import TextPlan
from palmette.train.texts.pretrain import prepare
from palmette.train.texts.stream import HeldOut, PieceStream, Strand
from palmette.tree.batch import PackedBatch
from tests.support.command import palmette
from tests.support.models import tiny_llama
from tests.support.runs import adapter, assert_same, log, on_step, quiet

TEXTS = ["The ferry leaves at 7:40 from pier 3.", "What is the tower built of?", "Question: " * 6, "?"]


def texts_of(*texts: str, source: str = "a") -> Any:
    def open_texts() -> Iterator[Text]:
        return (Text(f"{source} {number}", text, source) for number, text in enumerate(texts))

    return open_texts


def stream_of(tokenizer: Any, *strands: Strand, shuffle: int = 0, share: float = 0.0, size: int = 16) -> PieceStream:
    return PieceStream(strands, TextPieces(tokenizer, size), held_out=HeldOut(share), seed=3, shuffle=shuffle)


@pytest.mark.parametrize("one_row", [True, False])
def test_the_loss_and_its_gradient_are_those_of_transformers(tokenizer: PreTrainedTokenizerFast, one_row: bool) -> None:
    """Each text in a row of its own, with transformers' causal loss, weighted by the number of its tokens. Packed, the
    texts share rows, and no text sees another: in float64 the difference is rounding.
    """
    model, stock = (tiny_llama(vocab_size=len(tokenizer)) for _ in range(2))
    stock.set_attn_implementation("sdpa")
    pieces = TextPieces(tokenizer, 512)
    trees = [tree for text in TEXTS for tree in pieces.trees("a", text)]
    batches = PackedBatch.pack(trees, row_tokens=512, tokens_per_batch=256, one_row=one_row)
    assert any(len(row.parents) > 1 for batch in batches for row in batch.rows)
    total = sum(batch.learn_weight for batch in batches)
    loss = sum(nll_objective(model, batch, total) for batch in batches)
    loss.backward()
    expected, theirs = torch.zeros((), dtype=torch.float64), 0.0
    for text in TEXTS:
        ids = torch.tensor([[tokenizer.eos_token_id, *tokenizer(text)["input_ids"], tokenizer.eos_token_id]])
        output = stock(input_ids=ids, labels=ids, use_cache=False)
        expected = (
            expected + torch.nn.functional.cross_entropy(output.logits[0, :-1], ids[0, 1:], reduction="sum") / total
        )
        theirs += output.loss.item() * (ids.shape[1] - 1) / total
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    assert loss.item() == pytest.approx(theirs, abs=1e-6)  # transformers' own loss rounds logits to float32
    for (name, ours), (_, others) in zip(model.named_parameters(), stock.named_parameters(), strict=True):
        assert torch.allclose(ours.grad, others.grad, atol=1e-12), name


def plan_of(stream: PieceStream, budget: int, step: int = 20) -> TextPlan:
    return TextPlan(stream, budget=budget, tokens_per_step=step, row_tokens=64, tokens_per_batch=64, one_row=True)


@pytest.mark.parametrize("budget", [20, 61, 119, 500])
def test_the_budget_is_kept_to_the_token(tokenizer: PreTrainedTokenizerFast, budget: int) -> None:
    """However often the texts begin again. Steps end within a piece of their share."""
    plan = plan_of(stream_of(tokenizer, Strand("a", texts_of(*TEXTS)), shuffle=3), budget)
    sizes = [sum(batch.learn_weight for batch in plan.step_batches(0, step)) for step in range(plan.steps_per_epoch)]
    assert sum(sizes) == budget
    assert len(sizes) == budget // 20
    reached = 0.0
    for number, size in enumerate(sizes, 1):
        reached += size
        assert 0 <= reached - budget * number // len(sizes) < 15


def test_one_pass_learns_every_text_once(tokenizer: PreTrainedTokenizerFast) -> None:
    expected = Counter(tokenizer("".join(TEXTS))["input_ids"])
    num_tokens = sum(len(tokenizer(text)["input_ids"]) + 1 for text in TEXTS)
    plan = plan_of(stream_of(tokenizer, Strand("a", texts_of(*TEXTS)), shuffle=2), num_tokens)
    trees = [tree for step in range(plan.steps_per_epoch) for tree in plan.step_trees(step)]
    learned = Counter(token for tree in trees for token in tree.root.segments[1].tokens)
    assert learned.pop(tokenizer.eos_token_id) == len(TEXTS)
    text = "".join(sorted(tokenizer.decode(list(learned.elements()))))
    assert text == "".join(sorted(tokenizer.decode(list(expected.elements()))))


def test_a_budget_below_a_step_is_refused(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(RecipeError, match=r"19 tokens to learn, less than pretrain\.tokens_per_step = 20"):
        plan_of(stream_of(tokenizer, Strand("a", texts_of(*TEXTS))), 19)


def test_sources_are_mixed_by_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    """Three parts to one, whatever the lengths of the texts, and the short source begins again."""
    strands = [Strand("a", texts_of(*TEXTS), 3.0), Strand("b", texts_of("pier 3", source="b"), 1.0)]
    stream = stream_of(tokenizer, *strands)
    counts: Counter[str] = Counter()
    for _ in range(400):
        tree = stream.next()
        counts[tree.name] += num_learned(tree)
    assert counts["a"] / counts["b"] == pytest.approx(3, abs=0.1)


def test_a_stream_goes_on_where_it_was_left(tokenizer: PreTrainedTokenizerFast) -> None:
    """At any piece, in any pass, mixed and shuffled."""

    def fresh() -> PieceStream:
        strands = [Strand("a", texts_of(*TEXTS), 1.0), Strand("b", texts_of(*TEXTS[:2], source="b"), 2.0)]
        return stream_of(tokenizer, *strands, shuffle=3, size=6)

    straight = fresh()
    states, pieces = [], []
    for _ in range(150):
        states.append(json.loads(json.dumps(straight.state())))
        pieces.append(straight.next())
    assert states[-1][0]["pass"] > 1
    for place in (0, 1, 40, 97):
        again = fresh()
        again.restore(states[place])
        assert [again.next() for _ in range(30)] == pieces[place : place + 30]


def test_passes_differ_in_their_order_and_not_in_what_they_hold(tokenizer: PreTrainedTokenizerFast) -> None:
    stream = stream_of(tokenizer, Strand("a", texts_of(*(f"pier {n}" for n in range(40)))), shuffle=20)
    passes = [[stream.next() for _ in range(40)] for _ in range(2)]
    assert passes[0] != passes[1]
    assert sorted(map(repr, passes[0])) == sorted(map(repr, passes[1]))


def test_what_is_held_out_is_never_learned(tokenizer: PreTrainedTokenizerFast) -> None:
    texts = [f"Document {n}: the ferry leaves at {n}." for n in range(300)]
    pieces, held_out = TextPieces(tokenizer, 64), HeldOut(0.2)
    held = {tree for text in texts for tree in pieces.trees("a", text) if held_out(tree)}
    # 300 pieces: three standard deviations of the binomial are 0.07.
    assert 0.13 < len(held) / 300 < 0.27
    stream = stream_of(tokenizer, Strand("a", texts_of(*texts)), share=0.2, size=64)
    assert held.isdisjoint(stream.next() for _ in range(600))


def test_a_source_of_nothing_is_named(tokenizer: PreTrainedTokenizerFast) -> None:
    with pytest.raises(DataError, match="b: nothing to learn is left"):
        stream_of(tokenizer, Strand("b", texts_of())).next()


def recipe_of(tiny_folder: Path, out: Path, folder: Path, **changes: Any) -> PretrainRecipe:
    """Six steps over two files, one of text and one of rows, with a source that is only measured on."""
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_text("The ferry leaves at 7:40 from pier 3. " * 30)
    rows = [{"text": f"The tower {n} is built of oak and of {n} bricks. " * (n % 4 + 1)} for n in range(20)]
    (folder / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "c.md").write_text("# Notes\n\nPier 4 is built of oak.\n")
    values: dict[str, Any] = {
        "output": str(out),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(folder / "a.txt"), str(folder / "b.jsonl")]},
        "lora": {"rank": 2, "dropout": 0.1},
        "train": {"learning_rate": 0.01, "save_every": 1, "row_tokens": 128, "tokens_per_batch": 256},
        "pretrain": {
            "tokens_per_step": 256,
            "piece_tokens": 64,
            "shuffle": 4,
            "held_out": [str(folder / "c.md")],
            "held_out_share": 0.1,
            "measure_every": 2,
            "prompts": ["The ferry"],
            "sample_tokens": 5,
        },
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        values.setdefault(section, {})[name] = value
    return read_section(PretrainRecipe, values, "test")


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrain")
    train(recipe_of(tiny_folder, folder / "run", folder / "texts", pretrain__tokens=1700), quiet)
    return folder


def test_a_run_measures_by_source_and_writes(finished: Path) -> None:
    lines = log(finished / "run", "held_out.jsonl")
    assert [line["step"] for line in lines] == [step for step in (0, 2, 4, 6) for _ in range(3)]
    first, last = lines[:3], lines[-3:]
    names = ["a.txt", "b.jsonl", "c.md"]
    assert sorted(Path(line["source"]).name for line in first) == names
    # Close to all tokens alike, as random weights that are small predict.
    size = json.loads((finished / "run" / "manifest.json").read_text())["vocabulary"]
    assert [line["loss"] for line in first] == pytest.approx([math.log(size)] * 3, abs=1.0)
    assert all(after["loss"] < before["loss"] for before, after in zip(first, last, strict=True))
    assert all(line["perplexity"] == pytest.approx(math.exp(line["loss"])) for line in lines)
    written = log(finished / "run", "written.jsonl")
    assert [(line["step"], line["prompt"]) for line in written] == [(step, "The ferry") for step in (0, 2, 4, 6)]
    logged = log(finished / "run")
    assert [line["step"] for line in logged if "held_out_loss" in line] == [1, 3, 5]
    assert logged[-1]["tokens_per_second"] > 0


@pytest.mark.parametrize("step", [1, 4])
def test_a_stopped_run_ends_with_the_same_parameters(
    step: int, finished: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tiny_folder, tmp_path / "run", finished / "texts", pretrain__tokens=1700)
    with monkeypatch.context() as patch:
        on_step(patch, step, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterrupted):
            train(recipe, quiet)
    resume(tmp_path / "run", quiet)
    assert_same(adapter(finished / "run"), adapter(tmp_path / "run"))
    for name in ("held_out.jsonl", "written.jsonl"):
        assert log(tmp_path / "run", name) == log(finished / "run", name)


def test_a_run_is_measured_by_its_name(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same figure as the run's own at its end, for a source that it only measured on."""
    source, run = finished / "texts" / "c.md", finished / "run"
    command = ("eval", "texts", source, "--model", run, "--piece-tokens", "64", "--json")
    assert palmette(monkeypatch, *command) == 0
    (found,) = json.loads(capsys.readouterr().out)
    (last,) = [line for line in log(run, "held_out.jsonl") if line["step"] == 6 and line["source"] == str(source)]
    assert found["tokens"] == last["tokens"]
    assert found["loss"] == pytest.approx(last["loss"], abs=1e-4)


@pytest.mark.parametrize(
    "mixed", [{"replay": ["b.txt"]}, {"weights": [1.0, 1.0]}, {"weights": [1.0, 1.0], "replay": ["c.txt"]}, {}]
)
def test_the_report_counts_what_each_strand_learns(
    mixed: dict[str, Any], tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts that a file shares with another: within a strand they are learned once, and in each strand again."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evaluation.jsonl").write_text('{"text": "one two three four five six seven eight nine ten"}\n')
    for name in "abc":
        Path(f"{name}.txt").write_text(f"Pier 3 is built of oak.{' ' * ord(name)}")
    changes = {"tokens": 64, "tokens_per_step": 32, "piece_tokens": 32, "held_out_share": 0.0, **mixed}
    values = {
        "output": "run",
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": ["a.txt"] if mixed.get("replay") == ["b.txt"] else ["a.txt", "b.txt"]},
        "train": {"row_tokens": 32, "tokens_per_batch": 32},
        "clean": {"against": ["evaluation.jsonl"]},
        "pretrain": changes,
    }
    said: list[str] = []
    read: list[str] = []
    monkeypatch.setattr(
        "palmette.corpus.overlap.evaluation_texts", lambda name: read.append(name) or iter(["one " * 20])
    )
    job = prepare(read_section(PretrainRecipe, values, "test"), said.append)
    counted = {name: int(rest[0]) for name, _, rest in (line.partition(".txt: ") for line in said) if rest}
    apart = len(mixed.get("replay", [])) + (2 if "weights" in mixed else 1)
    assert sum(counted.values()) == apart
    assert {Path(tree.name).stem for step in (0, 1) for tree in job.plan.step_trees(step)} == {
        name for name, number in counted.items() if number
    }
    assert read == ["evaluation.jsonl"]


def test_epochs_become_tokens(finished: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Two passes are twice the tokens that the corpus in the manifest has, and replay comes on top of them."""
    texts = finished / "texts"
    (texts / "r.txt").write_text("Oak and bricks. " * 9)
    changes = {"train__epochs": 2, "pretrain__replay": [str(texts / "r.txt")], "pretrain__replay_share": 0.2}
    train(recipe_of(tiny_folder, tmp_path / "run", texts, **changes), quiet)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    tokens = [one["tokens"] for one in manifest["corpus"]]
    assert len(tokens) == 3
    saved = (tmp_path / "run" / "recipe.yaml").read_text()
    assert f"  tokens: {round(2 * sum(tokens[:2]) / 0.8)}\n" in saved
    assert log(tmp_path / "run")[-1]["epoch"] == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__trees_per_step": 7}, r"trees_per_step = 7 has no meaning .* Use pretrain\.tokens_per_step"),
        ({"pretrain__tokens": 300, "train__epochs": 2}, r"tokens = 300 and train\.epochs = 2 both say how long"),
        ({"pretrain__piece_tokens": 300}, r"piece_tokens = 300 is more than train\.row_tokens = 128"),
        ({"pretrain__weights": [1.0]}, r"1 weights for 2 sources"),
        ({"pretrain__weights": [1.0, 2.0]}, r"Set pretrain\.tokens"),
        ({"data__kind": "chat"}, r"data\.kind = chat, but pre-training learns texts"),
    ],
)
def test_contradictions_are_named(changes: dict[str, Any], message: str, tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_of(tiny_folder, tmp_path / "run", tmp_path / "texts", **changes)


def test_texts_that_weigh_less_count_less_in_the_loss(tokenizer: PreTrainedTokenizerFast) -> None:
    """Two texts, of which the second weighs a quarter, against the two losses of texts that are alone."""
    model = tiny_llama(vocab_size=len(tokenizer))
    pieces = TextPieces(tokenizer, 8)

    def loss_of(trees: list[Any], total: float) -> float:
        packed = PackedBatch.pack(trees, row_tokens=64, tokens_per_batch=64, one_row=True)
        return sum(nll_objective(model, batch, total).item() for batch in packed)

    light = list(pieces.trees("a", TEXTS[1], 0.25))
    assert len(light) > 1  # the weight holds for every piece
    alone = [list(pieces.trees("a", text)) for text in TEXTS[:2]]
    sizes = [sum(map(num_learned, trees)) for trees in alone]
    sums = [loss_of(trees, 1.0) for trees in alone]
    total = sizes[0] + sizes[1] / 4
    assert loss_of([*alone[0], *light], total) == pytest.approx((sums[0] + sums[1] / 4) / total, rel=1e-9)


def test_weights_of_rows_and_filters_reach_the_trees(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One text repeats itself, so it has half of its own weight of 0.5. The budget counts its tokens all the same."""
    rows = [
        {"text": "The ferry leaves at 7:40 from pier 3, and it comes back at noon.", "score": 2},
        {"text": "The tower stands. " * 40, "score": 0.5},
    ]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "output": str(tmp_path / "run"),
        "model": {"name": str(tiny_folder)},
        "data": {"train": [str(tmp_path / "t.jsonl")], "columns": {"weight": "score"}},
        "clean": {"repetition": True, "weights": {"repetition": 0.5}},
        "pretrain": {"tokens_per_step": 64, "piece_tokens": 64, "held_out_share": 0.0, "shuffle": 0},
    }
    told: list[str] = []
    job = prepare(read_section(PretrainRecipe, settings, "recipe"), told.append)
    assert any("learned with less weight: 1" in line for line in told)
    plan = job.plan
    assert isinstance(plan, TextPlan)
    trees = [tree for step in range(plan.steps_per_epoch) for tree in plan.step_trees(step)]
    weights = [tree.root.segments[1].learn for tree in trees]
    assert weights == [2.0] + [0.25] * (len(trees) - 1)
    assert len(trees) > 2
    assert plan.learned == sum(map(num_learned, trees))
    settings["clean"] = {"weights": {"repetition": 0.5}}
    with pytest.raises(RecipeError, match=r"clean\.repetition finds nothing"):
        read_section(PretrainRecipe, settings, "recipe")


@pytest.mark.parametrize("weight", [0, -1, True, "high", "0.5", None, 10**400])
def test_a_row_without_a_weight_is_named(weight: Any, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"text": "a", "score": weight}) + "\n")
    source = open_source(str(tmp_path / "t.jsonl"), columns={"weight": "score"})
    with pytest.raises(DataError, match=r"t\.jsonl: row 1: 'score' is .*, no weight"):
        list(source.open())


def test_a_table_of_text_has_weights_too(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("text,score\nThe tower stands.,0.5\nThe ferry leaves.,2\n")
    texts = list(open_source(str(tmp_path / "t.csv"), columns={"weight": "score"}).open())
    assert [text.weight for text in texts] == [0.5, 2.0]
    (tmp_path / "t.csv").write_text("text,score\nThe tower stands.,nan\n")
    with pytest.raises(DataError, match=r"t\.csv: row 2: 'score' is .*, no weight"):
        list(open_source(str(tmp_path / "t.csv"), columns={"weight": "score"}).open())


def test_the_texts_that_measure_forgetting_are_measured_and_never_learned(tiny_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("The ferry leaves at 7:40 from pier 3. " * 20)
    settings: dict[str, Any] = {
        "output": str(tmp_path / "run"),
        "model": {"name": str(tiny_folder)},
        "data": {"train": [str(tmp_path / "t.txt")]},
        "pretrain": {"tokens_per_step": 64, "piece_tokens": 64, "held_out": ["builtin:general"], "held_out_tokens": 99},
    }
    job = prepare(read_section(PretrainRecipe, settings, "recipe"), quiet)
    assert {tree.name for tree in job.held_out} >= {"builtin:general"}
    settings["pretrain"] |= {"held_out": [], "replay": ["builtin:general"]}
    with pytest.raises(DataError, match="measure forgetting, and they are not learned"):
        prepare(read_section(PretrainRecipe, settings, "recipe"), quiet)
