"""The proof that a tree honours its mask, for models whose rounding to 16 bits would hide a fault."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from palmette.errors import ModelError
from palmette.model import checks
from palmette.model.checks import check_model
from palmette.model.forward import logits_at
from tests.support.models import on_path


@pytest.fixture
def undecided(monkeypatch: pytest.MonkeyPatch) -> None:
    """No difference in bfloat16 is small enough to decide, or so large that it cannot be rounding."""
    monkeypatch.setitem(checks._TOLERANCE, torch.bfloat16, 0.0)
    monkeypatch.setattr(checks, "_ROUNDING", float("inf"))


@pytest.mark.usefixtures("undecided")
def test_a_model_that_rounds_a_lot_is_proved_in_float32_and_left_as_it_was() -> None:
    model = on_path("fused", torch.bfloat16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check_model(model, training=False)
    after = model.state_dict()
    assert all(after[name].dtype == tensor.dtype for name, tensor in before.items())
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


@pytest.mark.usefixtures("undecided")
def test_a_fault_as_small_as_rounding_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundredth of each logit goes to its neighbour: less than bfloat16 rounds in some models."""
    model = on_path("fused", torch.bfloat16)

    def astray(*inputs: Any) -> torch.Tensor:
        logits_QV = logits_at(*inputs)
        return logits_QV + 0.01 * logits_QV.roll(1, dims=-1)

    monkeypatch.setattr("palmette.model.checks.logits_at", astray)
    with pytest.raises(ModelError, match=r"relative difference 0\.01\d?, limit 0\.001"):
        check_model(model, training=False)
    assert model.dtype == torch.bfloat16


def test_a_gross_difference_is_refused_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = on_path("fused", torch.bfloat16)
    monkeypatch.setattr("palmette.model.checks.logits_at", lambda *inputs: 2 * logits_at(*inputs))
    with pytest.raises(ModelError, match=r"relative difference (0\.9\d|1|1\.\d+), limit 0\.05"):
        check_model(model, training=False)
