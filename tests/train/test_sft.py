"""The training job on a tiny model: what it leaves, exact resume (law 7), Ctrl-C, a full disk, and bad input."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from palmette.data.source import read_source
from palmette.errors import DataError, ModelError, PackingError, RunError
from palmette.model.loading import add_lora, load_model, weights_hash
from palmette.pages.plots import plot_loss
from palmette.run import whole_folder
from palmette.tasks.extractive_qa import ExtractiveQa
from palmette.tasks.qa_prompt import load_prompt
from palmette.train.run import resume, train
from palmette.train.stages import read_recipe
from palmette.train.steps.callbacks import TrainingInterrupted
from palmette.train.steps.checkpoints import checkpoints
from palmette.train.steps.step import TreeTrainer, nll_objective
from palmette.tree.batch import PackedBatch
from palmette.tree.chat import ChatTemplate
from tests.support.data import squad_file
from tests.support.recipes import sft_recipe
from tests.support.runs import adapter, assert_same, limit_files, on_step, quiet


def test_a_run_leaves_what_a_stranger_needs(sft_run: Path, tiny_folder: Path) -> None:
    assert {path.name for path in sft_run.iterdir()} == {"recipe.yaml", "manifest.json", "metrics.jsonl", "adapter"}
    manifest = json.loads((sft_run / "manifest.json").read_text())
    assert manifest["model"]["sha256"] == weights_hash(str(tiny_folder))
    data = read_source("builtin:dev", limit_documents=4)
    assert manifest["data"] == [{"source": "builtin:dev", "sha256": data.sha256, "documents": 4, "questions": 40}]
    assert manifest["versions"]["torch"] == torch.__version__
    assert manifest["machine"]["cores"] > 0
    assert manifest["seed"] == 0
    assert len(manifest["prompt_sha256"]) == 64
    log = [json.loads(line) for line in (sft_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    plot_loss(sft_run / "metrics.jsonl", sft_run.parent / "loss.png", "test")
    assert (sft_run.parent / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_training_lowers_the_loss(sft_run: Path, tiny_folder: Path) -> None:
    documents = read_source("builtin:dev", limit_documents=4).documents

    def loss(**options: Any) -> float:
        loaded = load_model(str(tiny_folder), dtype="float32", **options)
        task = ExtractiveQa(ChatTemplate(loaded.tokenizer))
        batch = PackedBatch.from_trees([[task.training_tree(document)] for document in documents])
        with torch.no_grad():
            return float(nll_objective(loaded.model, batch, batch.learn_weight))

    assert loss(adapter=sft_run / "adapter") < loss() - 0.2


def test_the_rehearsal_leaves_no_trace(
    sft_run: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest batch is gone through once, before all others, with dropout drawn: without it the same parameters
    come out.
    """
    seen: list[int] = []
    objective = nll_objective

    def noted(model: Any, batch: PackedBatch, denominator: float) -> torch.Tensor:
        seen.append(batch.num_tokens)
        return objective(model, batch, denominator)

    monkeypatch.setattr(
        TreeTrainer.__init__, "__kwdefaults__", {**TreeTrainer.__init__.__kwdefaults__, "objective": noted}
    )
    train(sft_recipe(tiny_folder, tmp_path / "with"), quiet)
    assert len(seen) == 5
    assert seen[0] == max(seen[1:])
    assert len(set(seen)) > 1, "all batches are of one size"
    seen.clear()
    monkeypatch.setattr(TreeTrainer, "_rehearse", lambda _: None)
    train(sft_recipe(tiny_folder, tmp_path / "without"), quiet)
    assert len(seen) == 4
    assert_same(adapter(tmp_path / "with"), adapter(tmp_path / "without"))
    assert_same(adapter(tmp_path / "with"), adapter(sft_run))


@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_disk_that_fills_up_within_the_weights_is_explained(tmp_path: Path, tiny_folder: Path, method: str) -> None:
    """All small files fit, the weights do not: safetensors has an error of its own for this."""
    model = load_model(str(tiny_folder)).model
    if method == "lora":
        model = add_lora(model, rank=8, alpha=8, dropout=0.0, targets="all-linear")
    limit_files(9000)
    try:
        with pytest.raises(RunError, match=r"cannot write .*weights"), whole_folder(tmp_path / "weights") as staging:
            model.save_pretrained(staging)
    finally:
        limit_files(None)
    assert list(tmp_path.iterdir()) == []


def test_a_resume_with_other_data_is_refused(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = squad_file(tmp_path / "data.json")
    on_step(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        train(sft_recipe(tiny_folder, tmp_path / "run", data__train=[str(data)], train__epochs=3), quiet)
    monkeypatch.undo()
    good = data.read_text()
    data.write_text(good.replace("Who built it?", "Who owns it?"))
    with pytest.raises(RunError, match=r"was begun with data = .*, and now it is "):
        resume(tmp_path / "run", quiet)
    data.write_text(good)
    with (tmp_path / "run" / "metrics.jsonl").open("a") as stream:
        stream.write('{"step": 3, "lo')  # cut off while it was written
    resume(tmp_path / "run", quiet)
    assert (tmp_path / "run" / "adapter").is_dir()


def test_the_resolved_recipe_names_the_words_and_the_dtype(sft_run: Path) -> None:
    resolved = read_recipe(sft_run / "recipe.yaml")
    assert resolved.model.dtype == "float32"
    assert resolved.prompt.model_dump() == {"name": "plain", **asdict(load_prompt())}
    base = json.loads((sft_run / "adapter" / "adapter_config.json").read_text())["base_model_name_or_path"]
    assert base == resolved.model.name


def test_old_checkpoints_go_and_the_newest_stay(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    out = tmp_path / "run"
    on_step(monkeypatch, 4, lambda: seen.append([path.name for path in checkpoints(out / "checkpoints")]))
    train(sft_recipe(tiny_folder, out, train__keep_checkpoints=2), quiet)
    assert seen == [["checkpoint-2", "checkpoint-3"]]


def test_bad_jobs_leave_nothing_behind(sft_run: Path, tiny_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "none"
    bad = str(squad_file(tmp_path / "bad.json", answers=[{"text": "marble", "answer_start": 0}]))
    for error, message, changes in (
        (DataError, "'marble' at 0", {"data__train": [bad]}),
        (
            PackingError,
            r"of document 'apartment_lease/0' needs a tree of \d+ tokens, more than train.row_tokens = 100",
            {"train__row_tokens": 100},
        ),
        (DataError, "nothing is left to train on", {"train__row_tokens": 100, "data__on_too_long": "drop"}),
        (ModelError, "of document 'apartment_lease/0.* needs", {"model__overrides": {"max_position_embeddings": 300}}),
        (ModelError, "there is no folder 'no/such-model' on this machine", {"model__name": "no/such-model"}),
        (ModelError, "attention_dropout = 0.5", {"model__overrides": {"attention_dropout": 0.5}}),
        (ModelError, "LoRA cannot be put on", {"lora__targets": ["nowhere"]}),
    ):
        with pytest.raises(error, match=message):
            train(sft_recipe(tiny_folder, out, **changes), quiet)
        assert not out.exists()
    with pytest.raises(RunError, match="exists already"):
        train(sft_recipe(tiny_folder, sft_run), quiet)
    with pytest.raises(RunError, match="is finished"):
        resume(sft_run, quiet)
    with pytest.raises(RunError, match=r"is not a run folder: it has no recipe\.yaml"):
        resume(tmp_path, quiet)


def test_dropped_questions_are_counted_with_reasons(tiny_folder: Path, tmp_path: Path) -> None:
    """The limit is one token below what the longest question needs with its document. The others fit, one by one."""
    path = squad_file(tmp_path / "two.json")
    task = ExtractiveQa(ChatTemplate(load_model(str(tiny_folder)).tokenizer))
    alone = {
        question.id: (document.id, task.training_tree(replace(document, questions=(question,))).num_tokens)
        for document in read_source(str(path)).documents
        for question in document.questions
    }
    longest = max(alone, key=lambda name: alone[name][1])
    document, needed = alone[longest]
    assert sorted(tokens for _, tokens in alone.values())[-2] < needed
    said: list[str] = []
    changes = {"data__train": [str(path)], "train__row_tokens": needed - 1, "data__on_too_long": "drop"}
    train(sft_recipe(tiny_folder, tmp_path / "dropping", **changes), said.append)
    manifest = json.loads((tmp_path / "dropping" / "manifest.json").read_text())
    named = f"question {longest!r} of document {document!r}"
    assert manifest["dropped"] == [
        f"{named} needs a tree of {needed} tokens, more than train.row_tokens = {needed - 1}"
    ]
    assert any(f"{len(alone) - 1} questions" in line and "1 records left out" in line for line in said)
    with pytest.raises(PackingError, match=re.escape(named)):
        train(sft_recipe(tiny_folder, tmp_path / "refused", **{**changes, "data__on_too_long": "error"}), quiet)


def test_numbers_that_explode_stop_the_run(tiny_folder: Path, tmp_path: Path) -> None:
    changes = {"train__learning_rate": 1e30, "train__max_grad_norm": 0.0, "train__warmup": 0.0}
    with pytest.raises(ModelError, match="is not finite at step"):
        train(sft_recipe(tiny_folder, tmp_path / "many", **changes), quiet)
    one_step = {**changes, "train__learning_rate": 3e38, "train__epochs": 1, "train__trees_per_step": 4}
    with pytest.raises(ModelError, match="is not finite at step"):
        train(sft_recipe(tiny_folder, tmp_path / "last", **one_step, train__save_every=0), quiet)
    assert not (tmp_path / "last" / "adapter").exists()
