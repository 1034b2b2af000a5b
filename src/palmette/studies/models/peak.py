"""The memory that a piece of work takes at its peak, measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from palmette.model.memory import give_back

_PROCESS = Path("/proc/self")
_RESET_PEAK = "5"  # what proc(5) has for "the peak of resident memory begins again"
_T = TypeVar("_T")


def with_peak(device: torch.device, work: Callable[[], _T]) -> tuple[_T, int | None]:
    """Do some work, and say how much memory was in use at the peak of it.

    On a GPU that is what torch has allocated there. On a CPU it is the resident memory of the whole process, with the
    model and whatever else the process holds, so it is more than the work alone takes.

    Args:
        device: where the work is done.
        work: the work.

    Returns:
        What the work returns, and the peak in bytes. None where the system does not say: other systems than Linux.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return work(), int(torch.cuda.max_memory_allocated(device))
    give_back()  # what an earlier model has left
    known = device.type == "cpu" and _reset()
    done = work()
    return done, _resident_peak() if known else None


def _reset() -> bool:
    try:
        (_PROCESS / "clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _resident_peak() -> int | None:
    try:
        status = (_PROCESS / "status").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    line = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "")
    return int(line.split()[1]) * 1024 if line else None
