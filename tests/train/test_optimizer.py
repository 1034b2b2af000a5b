"""AdamW over float32 masters, against torch's own AdamW."""

from __future__ import annotations

import io

import torch

from palmette.train.steps.optimizer import MasterAdamW


def run(parameter: torch.nn.Parameter, gradients: list[float], lr: float) -> MasterAdamW:
    optimizer = MasterAdamW([parameter], lr=lr, weight_decay=0.1)
    for gradient in gradients:
        parameter.grad = torch.full_like(parameter, gradient)
        optimizer.collect()
        optimizer.step()
    return optimizer


def test_float32_weights_move_as_under_torch() -> None:
    ours, theirs = (torch.nn.Parameter(torch.linspace(-1, 1, 8)) for _ in range(2))
    run(ours, [1.0, 2.0, 3.0, 4.0, 5.0], lr=0.1)
    reference = torch.optim.AdamW([theirs], lr=0.1, weight_decay=0.1, fused=True)
    for step in range(5):
        theirs.grad = torch.full_like(theirs, 1.0 + step)
        reference.step()
    assert torch.equal(ours, theirs)


def test_small_updates_of_bfloat16_weights_add_up() -> None:
    """Each step moves a weight of 1 by about 0.0001, and bfloat16 has nothing between 1 and 0.996: alone, all are
    lost.
    """
    ours, bare = (torch.nn.Parameter(torch.ones(4, dtype=torch.bfloat16)) for _ in range(2))
    optimizer = run(ours, [1.0] * 100, lr=1e-4)
    lossy = torch.optim.AdamW([bare], lr=1e-4, weight_decay=0.1)
    for _ in range(100):
        bare.grad = torch.ones_like(bare)
        lossy.step()
    assert torch.equal(bare, torch.ones_like(bare))
    # Under a constant gradient Adam's step is lr, and the decay lr * 0.1 * weight: w' = (1 - 1e-5) w - 1e-4, a hundred
    # times.
    expected = (1 + 10) * (1 - 1e-5) ** 100 - 10
    assert torch.allclose(optimizer.masters[0], torch.full((4,), expected), atol=1e-5)
    assert torch.equal(ours, optimizer.masters[0].to(torch.bfloat16))


def test_gradients_of_bfloat16_weights_add_up_in_float32() -> None:
    """1 + 255 * 1/256: a bfloat16 sum stays at 1, since each addend is half a unit in its last place or less."""
    parameter = torch.nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))
    optimizer = MasterAdamW([parameter], lr=0.1)
    for gradient in [1.0] + [1 / 256] * 255:
        parameter.grad = torch.tensor([gradient], dtype=torch.bfloat16)
        optimizer.collect()
    assert optimizer.masters[0].grad is not None
    assert float(optimizer.masters[0].grad) == 1 + 255 / 256


def test_a_restored_optimizer_goes_on_as_the_first() -> None:
    one = torch.nn.Parameter(torch.ones(3, dtype=torch.bfloat16))
    first = run(one, [1.0, 2.0, 3.0], lr=0.01)
    stream = io.BytesIO()
    torch.save(first.state_dict(), stream)
    stream.seek(0)
    state = torch.load(stream, weights_only=True)
    saved = torch.nn.Parameter(torch.zeros(3, dtype=torch.bfloat16))
    second = MasterAdamW([saved], lr=0.5)
    second.load_state_dict(state)
    for parameter, optimizer in ((one, first), (saved, second)):
        parameter.grad = torch.full_like(parameter, 2.0)
        optimizer.collect()
        optimizer.step()
    assert torch.equal(one, saved)
    assert torch.equal(first.masters[0], second.masters[0])
