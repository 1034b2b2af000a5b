"""AdamW with float32 master weights. Weights stay in the model's dtype, updates and gradients are summed in float32.

bfloat16 has eight bits of mantissa, so an update below about 1/256 of a weight would be lost if it were added to the
weight itself.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch

from palmette.train.steps.sharding import local, part_of, whole_of


class MasterAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter, 2019) over float32 copies of the parameters.

    Of a model that is divided among processes (`train/steps/sharding.py`), each process has the masters of its own
    parts.

    After each backward pass call `collect`, which moves the parameters' gradients to their masters. `step` updates the
    masters and writes them back, rounded, to the parameters.

    Args:
        parameters: the trained parameters, in any floating dtype.
        lr: learning rate.
        weight_decay: decoupled weight decay.
    """

    def __init__(self, parameters: Iterable[torch.nn.Parameter], lr: float, weight_decay: float = 0.0) -> None:
        super().__init__(list(parameters), {"lr": lr})
        self.trained: list[torch.nn.Parameter] = [p for group in self.param_groups for p in group["params"]]
        self.masters = [_master(local(p.detach())) for p in self.trained]
        self._state: dict[str, Any] | None = None
        self._inner = torch.optim.AdamW(self.masters, lr=lr, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of the parameters to those of the masters, and clear the former."""
        for parameter, master in zip(self.trained, self.masters, strict=True):
            if parameter.grad is None:
                continue
            gradient = local(parameter.grad)
            if master.grad is None:
                master.grad = gradient.to(master.dtype, copy=True)
            else:
                master.grad.add_(gradient)
            parameter.grad = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is evaluated
        """Update the masters once, and write them back to the parameters."""
        for group in self._inner.param_groups:
            group["lr"] = self.param_groups[0]["lr"]
        self._inner.step()
        for parameter, master in zip(self.trained, self.masters, strict=True):
            local(parameter).copy_(master)
            master.grad = None

    @property
    def finite(self) -> bool:
        """Whether all values of all masters are finite."""
        return all(bool(master.isfinite().all()) for master in self.masters)

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Within the block, one process alone may call `state_dict`. Every process must enter it."""
        self._state = self._gathered()
        try:
            yield
        finally:
            self._state = None

    def state_dict(self) -> dict[str, Any]:
        """Masters and moments, and the learning rate. If the model is divided, call it within `whole`."""
        return self._state or self._gathered()

    def _gathered(self) -> dict[str, Any]:
        inner = self._inner.state_dict()
        moments = {
            index: {name: self._each(whole_of, value, index) for name, value in of_parameter.items()}
            for index, of_parameter in inner["state"].items()
        }
        masters = [self._each(whole_of, master, index) for index, master in enumerate(self.masters)]
        return {**super().state_dict(), "inner": {**inner, "state": moments}, "masters": masters}

    def _each(self, change: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], value: Any, index: int) -> Any:
        """A value of a parameter's state, gathered or divided as the parameter is. The count of steps is no part."""
        is_part = torch.is_tensor(value) and value.dim() == self.trained[index].dim() > 0
        return change(value, self.trained[index]) if is_part else value

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore masters and moments, and write the masters to the parameters."""
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        inner = state_dict["inner"]
        moments = {
            index: {name: self._each(part_of, value, index) for name, value in of_parameter.items()}
            for index, of_parameter in inner["state"].items()
        }
        self._inner.load_state_dict({**inner, "state": moments})
        for parameter, master, saved in zip(self.trained, self.masters, state_dict["masters"], strict=True):
            master.copy_(part_of(saved, parameter))
            local(parameter).copy_(master)


def _master(parameter: torch.Tensor) -> torch.Tensor:
    return parameter.to(torch.promote_types(parameter.dtype, torch.float32), copy=True)
