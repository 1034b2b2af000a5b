"""Pause tokens: rows of input embeddings of their own, learned alone or with the rest, kept beside the adapter; law
7 holds.
"""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from palmette.decode.effort import Effort
from palmette.decode.generation import GenerationDecoder
from palmette.decode.greedy import GreedyDecoder
from palmette.decode.span_decoder import SpanDecoder
from palmette.errors import DataError, ModelError, RecipeError, RunError
from palmette.inference.answerer import load_answerer
from palmette.model.files import PAUSE_WEIGHTS
from palmette.model.forward import logits_at
from palmette.model.loading import add_lora, load_model
from palmette.model.pause import add_pause, load_pause, pause_of, save_pause, without_pause
from palmette.publish.merge import merge_run
from palmette.tasks.extractive_qa import Reasoning
from palmette.train import sft
from palmette.train.run import resume, train
from palmette.train.steps import callbacks
from palmette.train.steps.callbacks import TrainingInterrupted
from palmette.tree.batch import PackedBatch
from palmette.tree.prefix_tree import Node, PrefixTree, lay_out
from palmette.tree.segments import Segment
from tests.support.command import palmette, push
from tests.support.data import squad_file
from tests.support.models import PATHS, on_path, tiny_llama
from tests.support.recipes import parse_recipe, sft_recipe
from tests.support.runs import adapter, assert_same, quiet
from tests.support.tasks import DOCUMENT, task_with

DISTINCT, SHARED = Reasoning("pause", 3, shared=False), Reasoning("pause", 3)


def test_ids_are_outside_every_vocabulary() -> None:
    assert DISTINCT.pause_tokens == (-1, -2, -3)
    assert SHARED.pause_tokens == (-1, -1, -1)
    assert Reasoning("blah", 3).pause_tokens == ()


@pytest.mark.parametrize("path", [path for path in PATHS if path != "flex"])  # which has no backward pass on a CPU
def test_a_tree_with_pauses_is_rows_of_embeddings(path: str) -> None:
    """The oracle: transformers' own model on one branch a row, given embeddings in which the rows were put by hand."""
    model, plain = on_path(path), tiny_llama(torch.float64, "sdpa")
    parameter = add_pause(model, 2)
    for weight in model.get_input_embeddings().parameters():
        weight.requires_grad_(weight is parameter)
    branches = [(7, -1, -2, 9), (11, -2, 4)]
    tree = PrefixTree(Node((Segment((5, 6)),), tuple(Node((Segment(tokens),)) for tokens in branches)))
    batch = PackedBatch.from_trees([[tree]])
    ends = torch.tensor([5, 8])
    found = logits_at(model, batch, ends)
    found.log_softmax(-1)[:, 3].sum().backward()
    rows_ND = parameter.detach().clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for tokens, logits_V in zip(branches, found, strict=True):
        embedded = [
            rows_ND[-1 - token] if token < 0 else plain.get_input_embeddings().weight[token].detach()
            for token in (5, 6, *tokens)
        ]
        alone_V = plain(inputs_embeds=torch.stack(embedded)[None]).logits[0, -1]
        torch.testing.assert_close(logits_V, alone_V, rtol=0, atol=1e-10)
        total = total + alone_V.log_softmax(-1)[3]
    total.backward()
    assert parameter.grad is not None
    assert float(parameter.grad.abs().min(dim=1).values.max()) > 0
    torch.testing.assert_close(parameter.grad, rows_ND.grad, rtol=0, atol=1e-9)


def test_text_without_pauses_is_read_as_before() -> None:
    model, plain = tiny_llama(torch.float64), tiny_llama(torch.float64)
    add_pause(model, 2)
    batch = PackedBatch.from_trees([[PrefixTree(Node((Segment((5, 6, 7)),)))]])
    where = torch.arange(3)
    assert torch.equal(logits_at(model, batch, where), logits_at(plain, batch, where))
    assert without_pause(model).keys() == plain.state_dict().keys()


def test_pauses_are_seen_and_never_learned(tokenizer: Any) -> None:
    for reasoning in (DISTINCT, SHARED):
        for learn in ("full", "assistant", {"reasoning": 1.0, "answer": 1.0}):
            row = lay_out(task_with(tokenizer, reasoning, learn=learn).training_tree(DOCUMENT))
            places = [index for index, token in enumerate(row.token) if token < 0]
            assert [row.token[index] for index in places] == list(reasoning.pause_tokens) * len(DOCUMENT.questions)
            assert all(row.attend[index] and not row.learn[index] for index in places)


def test_decoders_write_them_in(tokenizer: Any) -> None:
    """A span after pauses: the same tokens in one row, through the same model without a cache."""
    model = tiny_llama(torch.float64, vocab_size=len(tokenizer), initializer_range=0.2)
    add_pause(model, 3)
    task, question = task_with(tokenizer, DISTINCT), DOCUMENT.questions[0]
    effort = Effort(max_passes=None, tokens_per_pass=None)
    decoder = SpanDecoder(model, tokenizer, effort=effort, reasoning=DISTINCT)
    found = {
        id_: {text: odds for text, _, odds in posterior.spans} for id_, posterior in decoder.posteriors([DOCUMENT])
    }
    opened = task.open_completion(DOCUMENT.text, question.text)
    before = (*opened.root, *opened.document, *opened.question, -1, -2, -3, *opened.opening)
    logprobs = {}
    for text, tokens in (("granite", task.template.encoder.content("granite")), ("?", opened.abstain)):
        said = (*tokens, opened.closing)
        batch = PackedBatch.from_trees([[PrefixTree(Node((Segment((*before, *said)),)))]])
        with torch.no_grad():
            rows = torch.arange(len(before) - 1, len(before) + len(said) - 1)
            logits = logits_at(model, batch, rows).log_softmax(-1)
        logprobs[text] = sum(float(logits[i, token]) for i, token in enumerate(said))
    assert found["q1"]["granite"] == pytest.approx(logprobs["granite"] - logprobs["?"], abs=1e-9)
    asked = [(DOCUMENT, question)]
    completions = [
        dict(GreedyDecoder(model, tokenizer, t, max_new_tokens=6).completions(asked))
        for t in (task, task_with(tokenizer, Reasoning()))
    ]
    assert completions[0] != completions[1], "the pauses change nothing"
    with pytest.raises(ModelError, match="cannot insert"):
        GenerationDecoder(model, tokenizer, task)
    with pytest.raises(DataError, match="does not reason freely"):
        SpanDecoder(model, tokenizer, reasoning=DISTINCT, reasoning_limit=5)


def with_pauses(tiny_folder: Path, out: Path, **changes: Any) -> Any:
    defaults = {"reasoning__kind": "pause", "reasoning__tokens": 3, "reasoning__shared": False}
    return sft_recipe(tiny_folder, out, **{**defaults, "reasoning__embedding_epochs": 1, **changes})


@pytest.fixture(scope="module")
def straight(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in two stages that was never stopped."""
    out = tmp_path_factory.mktemp("pauses") / "run"
    train(with_pauses(tiny_folder, out), quiet)
    return out


def test_the_first_stage_trains_the_embeddings_alone(
    straight: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, last = (load_file(straight / folder / PAUSE_WEIGHTS)["pause_ND"] for folder in ("embeddings", "adapter"))
    assert first.shape == (3, 32)
    assert not torch.equal(first, last), "the second stage left the embeddings alone"
    assert len((straight / "metrics-embeddings.jsonl").read_text().splitlines()) == 2, "four documents, two a step"
    run_steps, changed = sft.run_steps, []

    def noted(job: Any, *rest: Any) -> bool:
        named = {name: p.detach().clone() for name, p in job.loaded.model.named_parameters()}
        found = run_steps(job, *rest)
        changed.append({name for name, p in job.loaded.model.named_parameters() if not torch.equal(p, named[name])})
        return found

    monkeypatch.setattr(sft, "run_steps", noted)
    train(with_pauses(tiny_folder, tmp_path / "run"), quiet)
    one, two = changed
    assert [name.rpartition(".")[2] for name in one] == ["pause_ND"]
    assert one < two
    assert all("lora" in name for name in two - one)


def test_a_loaded_run_has_them(straight: Path, tiny_folder: Path) -> None:
    opened = load_answerer(str(straight))
    rows = pause_of(opened.loaded.model)
    assert rows is not None
    assert torch.equal(rows, load_file(straight / "adapter" / PAUSE_WEIGHTS)["pause_ND"])
    assert opened.task.reasoning == DISTINCT
    base = load_model(str(tiny_folder), dtype="float32")
    own = base.model.get_input_embeddings().weight
    assert torch.equal(opened.loaded.model.get_input_embeddings().weight, own), "the vocabulary's embeddings moved"


@pytest.mark.parametrize(("stopped_at", "epochs"), [(1, 1), (1, 2), (2, 1)])
def test_resuming_either_stage_changes_nothing(
    stopped_at: int,
    epochs: int,
    straight: Path,
    tiny_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C at the end of the first stage, within it, and in the second one."""
    longer = {"reasoning__embedding_epochs": epochs}
    if epochs > 1:
        straight = tmp_path / "straight"
        train(with_pauses(tiny_folder, straight, **longer), quiet)
    out, seen = tmp_path / "run", []
    original = callbacks.MetricsLog.on_log

    def interrupt(self: Any, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        original(self, args, state, control, logs, **kwargs)
        if logs and "loss" in logs and not seen and (self._path.name == "metrics.jsonl") == (stopped_at == 2):
            seen.append(state.global_step)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(callbacks.MetricsLog, "on_log", interrupt)
    with pytest.raises(TrainingInterrupted):
        train(with_pauses(tiny_folder, out, **longer), quiet)
    assert seen == [1]
    # A signal is heeded at the end of the next step, which is the last of a first stage of one epoch.
    assert (out / "embeddings").is_dir() == (epochs == 1)
    assert not (out / "adapter").is_dir()
    resume(out, quiet)
    assert_same(adapter(straight), adapter(out))
    assert_same(load_file(straight / "adapter" / PAUSE_WEIGHTS), load_file(out / "adapter" / PAUSE_WEIGHTS))


def test_full_fine_tuning_keeps_them_beside_a_plain_model(tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(with_pauses(tiny_folder, out, train__method="full", reasoning__embedding_epochs=0), quiet)
    plain = load_file(out / "model" / "model.safetensors")
    assert not [name for name in plain if "pause" in name]
    rows = pause_of(load_answerer(str(out)).loaded.model)
    assert rows is not None
    assert torch.equal(rows, load_file(out / "model" / PAUSE_WEIGHTS)["pause_ND"])


def test_what_cannot_be_is_refused(straight: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="embedding_epochs = 1 trains embeddings"):
        parse_recipe("output: x\nreasoning: {kind: blah, embedding_epochs: 1}", "r")
    with pytest.raises(RunError, match="plain model has no place"):
        merge_run(straight, tmp_path / "merged", "auto")
    model = tiny_llama(torch.float32)
    add_pause(model, 1)
    with pytest.raises(ModelError, match="already"):
        add_pause(model, 1)
    save_pause(model, tmp_path)
    with pytest.raises(ModelError, match=r"shape \(1, 32\), and the model's have 16"):
        load_pause(tiny_llama(torch.float32, hidden_size=16), tmp_path)
    (tmp_path / PAUSE_WEIGHTS).write_bytes(b"damaged")
    with pytest.raises(ModelError, match="cannot read the pause tokens"):
        load_pause(tiny_llama(torch.float32), tmp_path)
    adapted = add_lora(tiny_llama(torch.float32), rank=2, alpha=4.0, dropout=0.0, targets=["embed_tokens"])
    with pytest.raises(ModelError, match="input embedding"):
        add_pause(adapted, 1)


def test_a_run_without_its_pauses_is_refused(straight: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(straight, copy)
    (copy / "adapter" / PAUSE_WEIGHTS).unlink()
    with pytest.raises(RunError, match=r"holds no pause\.safetensors"):
        load_answerer(str(copy))


def test_inspect_shows_them(
    straight: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert palmette(monkeypatch, "inspect", "--model", straight, "--limit-questions", "2") == 0
    assert capsys.readouterr().out.count("<pause>") == 6


def test_by_the_command_line(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {
        "output": str(tmp_path / "run"),
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "data": {"train": [str(squad_file(tmp_path / "data.json"))]},
        "reasoning": {"kind": "pause", "tokens": 2},
        "train": {"epochs": 1},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(settings))
    assert palmette(monkeypatch, "train", "sft", tmp_path / "recipe.yaml") == 0
    for decoder in ("span", "greedy"):
        options = ("--model", tmp_path / "run", "--data", tmp_path / "data.json", "--out", tmp_path / decoder)
        assert palmette(monkeypatch, "eval", "squad", *options, "--decoder", decoder) == 0
    assert load_file(tmp_path / "run" / "adapter" / PAUSE_WEIGHTS)["pause_ND"].shape == (1, 32)


def test_a_card_names_no_program_that_would_leave_them_out(
    straight: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert push(monkeypatch, straight, "--dry-run", tmp_path / "card") == 0
    card = (tmp_path / "card" / "README.md").read_text()
    assert "Other programs cannot use it: its answers begin with learned tokens that no vocabulary has" in card
    assert "from_pretrained" not in card
    assert (tmp_path / "card" / PAUSE_WEIGHTS).is_file()
