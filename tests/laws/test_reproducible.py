"""Law 7: the same seed gives the same parameters, also to a run that was stopped, cut off or out of space."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

from palmette.errors import RunError
from palmette.train.run import resume, train
from palmette.train.steps.callbacks import TrainingInterrupted
from palmette.train.steps.checkpoints import checkpoints
from palmette.train.steps.step import TreeTrainer
from tests.support.models import SMALL
from tests.support.recipes import sft_recipe
from tests.support.runs import adapter, assert_same, limit_files, on_step, quiet


class PowerCutError(Exception):
    pass


def test_the_same_seed_gives_the_same_parameters(sft_run: Path, tiny_folder: Path, tmp_path: Path) -> None:
    train(sft_recipe(tiny_folder, tmp_path / "again"), quiet)
    assert_same(adapter(sft_run), adapter(tmp_path / "again"))
    train(sft_recipe(tiny_folder, tmp_path / "other", train__seed=1), quiet)
    other = adapter(tmp_path / "other")
    assert any(not torch.equal(value, other[name]) for name, value in adapter(sft_run).items())


@pytest.mark.parametrize("step", [1, 2, 3])
def test_ctrl_c_saves_and_resume_is_bit_equal(
    sft_run: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    out = tmp_path / "stopped"
    before = signal.getsignal(signal.SIGINT)
    # The signal comes while step `step` is logged, so step + 1 is finished and saved.
    on_step(monkeypatch, step, lambda: signal.raise_signal(signal.SIGINT))
    if step == 3:  # then it comes in the last step, and there is nothing left to stop
        train(sft_recipe(tiny_folder, out, train__save_every=0), quiet)
    else:
        with pytest.raises(
            TrainingInterrupted, match=f"stopped after step {step + 1}. Continue with: palmette train sft --resume"
        ):
            train(sft_recipe(tiny_folder, out, train__save_every=0), quiet)
        assert [path.name for path in checkpoints(out / "checkpoints")][-1] == f"checkpoint-{step + 1}"
        assert not (out / "adapter").exists()
        monkeypatch.undo()
        resume(out, quiet)
    assert signal.getsignal(signal.SIGINT) == before
    assert_same(adapter(sft_run), adapter(out))
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_cut_off_at_any_moment_resumes_bit_equal(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, dtype: str
) -> None:
    """Cut in step 3, after the checkpoint of step 2: step 3 is taken again."""
    changes = {"train__method": method, "model__dtype": dtype, "train__epochs": 1, "train__trees_per_step": 1}
    train(sft_recipe(tiny_folder, tmp_path / "straight", **changes), quiet)

    def cut() -> None:
        raise PowerCutError

    on_step(monkeypatch, 3, cut)
    with pytest.raises(PowerCutError):
        train(sft_recipe(tiny_folder, tmp_path / "cut", **changes), quiet)
    monkeypatch.undo()
    (tmp_path / "cut" / "checkpoints" / "checkpoint-99").mkdir()  # one that was cut off while it was written
    resume(tmp_path / "cut", quiet)
    name = "adapter/adapter_model.safetensors" if method == "lora" else "model/model.safetensors"
    resumed = load_file(tmp_path / "cut" / name)
    assert_same(load_file(tmp_path / "straight" / name), resumed)
    assert {str(value.dtype) for value in resumed.values()} == {f"torch.{dtype}"}


def test_a_full_disk_while_saving_leaves_the_previous_checkpoint(
    sft_run: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system refuses to let any file grow beyond 2 KiB from step 2 on, as a full disk would."""
    out = tmp_path / "full-disk"
    on_step(monkeypatch, 2, lambda: limit_files(2048))
    try:
        with pytest.raises(RunError, match=r"cannot write the checkpoint of step 2 .* resume from checkpoint-1"):
            train(sft_recipe(tiny_folder, out), quiet)
    finally:
        limit_files(None)
    monkeypatch.undo()
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["checkpoint-1"]
    resume(out, quiet)
    assert_same(adapter(sft_run), adapter(out))


def test_a_run_on_a_model_with_a_relative_name_goes_on_in_another_folder(
    sft_run: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "relative"
    with monkeypatch.context() as stopping:
        stopping.chdir(tiny_folder.parent)
        on_step(stopping, 1, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterrupted):
            train(sft_recipe(Path(tiny_folder.name), out), quiet)
    resume(out, quiet)
    assert_same(adapter(sft_run), adapter(out))
    config = json.loads((out / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["base_model_name_or_path"] == str(tiny_folder)


def test_a_full_disk_at_the_end_leaves_no_half_written_adapter(
    sft_run: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "full-disk"
    original = TreeTrainer._finalize_training

    def last(self: TreeTrainer, *args: Any) -> Any:
        limit_files(2048)
        return original(self, *args)

    monkeypatch.setattr(TreeTrainer, "_finalize_training", last)
    try:
        with pytest.raises(RunError, match=r"cannot write .*adapter"):
            train(sft_recipe(tiny_folder, out), quiet)
    finally:
        limit_files(None)
    monkeypatch.undo()
    assert {path.name for path in out.iterdir()} == {"recipe.yaml", "manifest.json", "metrics.jsonl", "checkpoints"}
    resume(out, quiet)
    assert_same(adapter(sft_run), adapter(out))


def test_a_mixture_of_experts_resumes_in_full(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers stores experts under other names than it holds them in memory."""
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        **{**SMALL, "vocab_size": len(tokenizer)}, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16
    )
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / "moe")
    tokenizer.save_pretrained(tmp_path / "moe")
    changes: dict[str, Any] = {"train__method": "full", "train__learning_rate": 0.001, "data__limit_documents": 2}
    changes["train__epochs"] = 3
    train(sft_recipe(tmp_path / "moe", tmp_path / "straight", **changes), quiet)
    on_step(monkeypatch, 1, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(TrainingInterrupted):
        train(sft_recipe(tmp_path / "moe", tmp_path / "stopped", **changes), quiet)
    monkeypatch.undo()
    resume(tmp_path / "stopped", quiet)
    assert_same(*(load_file(tmp_path / run / "model" / "model.safetensors") for run in ("straight", "stopped")))
