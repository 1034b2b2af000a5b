"""A proof is made once, and again as soon as anything that it depends on differs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM
from transformers.models.llama import modeling_llama

from palmette.cache import cache_folder
from palmette.errors import ModelError
from palmette.model import checks
from palmette.model.attention import BACKENDS
from palmette.model.checks import check_model
from palmette.model.fused import fuse
from palmette.model.proof import proof_of
from palmette.tree.batch import PackedBatch
from tests.support.models import tiny_llama
from tests.support.processes import call

WEIGHTS = "w" * 64


@pytest.fixture
def proofs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A cache of its own. The list grows by the model's name at each proof."""
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "cache"))
    made: list[str] = []
    honest = checks._prove

    def prove(model: Any, name: str) -> None:
        made.append(name)
        honest(model, name)

    monkeypatch.setattr(checks, "_prove", prove)
    return made


def plain(**changes: Any) -> LlamaForCausalLM:
    """A Llama of transformers' own classes alone."""
    model = LlamaForCausalLM(tiny_llama(torch.float32, **changes).config).eval()
    model.set_attn_implementation(BACKENDS["sdpa"])
    return model


def fused() -> LlamaForCausalLM:
    model = plain()
    fuse(model)
    return model


def test_a_proof_is_made_once(proofs: list[str]) -> None:
    for _ in range(3):
        check_model(plain(), training=False, weights=WEIGHTS)
    assert len(proofs) == 1


def test_without_a_hash_of_the_weights_it_is_made_each_time(proofs: list[str]) -> None:
    for _ in range(2):
        check_model(plain(), training=False)
    assert len(proofs) == 2
    assert not (cache_folder() / "proofs").exists()


MODELS: dict[str, Callable[[], Any]] = {
    "dtype": lambda: plain().to(torch.float64),
    "configuration": lambda: plain(rms_norm_eps=1e-5),
    "fused layers": fused,
}


@pytest.mark.parametrize("what", MODELS)
def test_another_model_is_proved_again(what: str, proofs: list[str]) -> None:
    check_model(plain(), training=False, weights=WEIGHTS)
    for _ in range(2):
        check_model(MODELS[what](), training=False, weights=WEIGHTS)
    assert len(proofs) == 2


def test_other_weights_are_proved_again(proofs: list[str]) -> None:
    check_model(plain(), training=False, weights=WEIGHTS)
    check_model(plain(), training=False, weights="v" * 64)
    assert len(proofs) == 2


def change_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")


def change_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmette.model.conditions._version", lambda name: f"{name} 99")


def change_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmette.model.conditions.code_hash", lambda: "other")


def change_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("palmette.model.conditions.processor_features", lambda: "flags: none")


def change_method(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = modeling_llama.LlamaMLP.forward
    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", lambda self, x: honest(self, x) * 1)


def change_function(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = modeling_llama.apply_rotary_pos_emb
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", lambda *given, **named: honest(*given, **named))


def change_our_code_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = PackedBatch.may_attend_BTT
    monkeypatch.setattr(PackedBatch, "may_attend_BTT", lambda batch: honest(batch))


CHANGES = [
    change_environment,
    change_library,
    change_code,
    change_machine,
    change_method,
    change_function,
    change_our_code_in_memory,
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda one: one.__name__)
def test_other_conditions_are_proved_again(
    change: Callable[[pytest.MonkeyPatch], None], proofs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_model(plain(), training=False, weights=WEIGHTS)
    change(monkeypatch)
    for _ in range(2):
        check_model(plain(), training=False, weights=WEIGHTS)
    assert len(proofs) == 2


def test_a_failed_proof_is_not_kept_and_a_kept_one_does_not_hide_it(
    proofs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    check_model(plain(), training=False, weights=WEIGHTS)
    honest = PackedBatch.may_attend_BTT

    def blind(batch: PackedBatch) -> torch.Tensor:
        return honest(replace(batch, attend_BT=torch.ones_like(batch.attend_BT)))

    monkeypatch.setattr(PackedBatch, "may_attend_BTT", blind)
    for _ in range(2):
        with pytest.raises(ModelError, match="other numbers in a tree"):
            check_model(plain(), training=False, weights=WEIGHTS)
    assert len(proofs) == 3
    assert len(list((cache_folder() / "proofs").iterdir())) == 1


class Derived(LlamaForCausalLM):
    """Of a class that no library's version stands for."""


def test_models_that_no_statement_describes_are_proved_each_time(proofs: list[str]) -> None:
    hooked = plain()
    hooked.model.layers[0].register_forward_hook(lambda *_: None)
    derived = Derived(plain().config).eval()
    for model in (hooked, derived):
        for _ in range(2):
            check_model(model, training=False, weights=WEIGHTS)
    assert len(proofs) == 4
    assert proof_of(plain(), WEIGHTS) is not None


def test_what_somebody_else_may_have_written_counts_for_nothing(proofs: list[str]) -> None:
    check_model(plain(), training=False, weights=WEIGHTS)
    (file,) = (cache_folder() / "proofs").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    check_model(plain(), training=False, weights=WEIGHTS)
    assert file.read_bytes() == whole
    file.chmod(0o666)
    check_model(plain(), training=False, weights=WEIGHTS)
    assert len(proofs) == 3


def test_a_cache_that_cannot_be_written_changes_nothing(
    proofs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PALMETTE_CACHE", str(tmp_path / "file"))
    for _ in range(2):
        check_model(plain(), training=False, weights=WEIGHTS)
    assert len(proofs) == 2


def statement() -> bytes | None:
    torch.set_num_threads(1)
    return proof_of(fused(), WEIGHTS)


def test_another_process_makes_the_same_statement() -> None:
    """Two new processes, since torch's compiler replaces methods of torch's classes in this one, for another test."""
    (code, first), (other_code, second) = call(statement), call(statement)
    assert code == other_code == 0
    assert first is not None
    assert first == second
