"""AdamW with float32 master weights. Weights stay in the model's dtype, updates and gradients are summed in float32.

bfloat16 has eight bits of mantissa, so an update below about 1/256 of a weight would be lost if it were added to the
weight itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


class MasterAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter, 2019) over float32 copies of the parameters.

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
        self.masters = [p.detach().to(torch.promote_types(p.dtype, torch.float32), copy=True) for p in self.trained]
        self._inner = torch.optim.AdamW(self.masters, lr=lr, weight_decay=weight_decay, fused=True)

    @torch.no_grad()
    def collect(self) -> None:
        """Add the gradients of the parameters to those of the masters, and clear the former."""
        for parameter, master in zip(self.trained, self.masters, strict=True):
            if parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.to(master.dtype, copy=True)
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is evaluated
        """Update the masters once, and write them back to the parameters."""
        for group in self._inner.param_groups:
            group["lr"] = self.param_groups[0]["lr"]
        self._inner.step()
        for parameter, master in zip(self.trained, self.masters, strict=True):
            parameter.copy_(master)
            master.grad = None

    @property
    def finite(self) -> bool:
        """Whether all values of all masters are finite."""
        return all(bool(master.isfinite().all()) for master in self.masters)

    def state_dict(self) -> dict[str, Any]:
        """Masters and moments, and the learning rate."""
        return {**super().state_dict(), "inner": self._inner.state_dict(), "masters": self.masters}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore masters and moments, and write the masters to the parameters."""
        super().load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self._inner.load_state_dict(state_dict["inner"])
        for parameter, master, saved in zip(self.trained, self.masters, state_dict["masters"], strict=True):
            master.copy_(saved)
            parameter.copy_(master)
