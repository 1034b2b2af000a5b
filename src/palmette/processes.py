"""Several processes that do one job together, as `torchrun` or `accelerate launch` starts them.

Every process runs the same code. Process 0, the main one, writes files and reports. The others compute their share.
What they exchange is small next to the gradients: sums, flags, completions.

Everything here also works in a single process, where it exchanges nothing.
"""

from __future__ import annotations

import contextlib
import gc
import heapq
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from palmette.errors import AnotherFailed, PalmetteError, RunError, reason_of

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# A process may wait for another that scores a reference or measures. One that has ended is noticed at once. Only at the
# beginning, nobody knows whether the others were started.
_LONGEST_WAIT, _FOR_THE_FIRST_TIME = timedelta(hours=6), timedelta(minutes=10)


class ProcessLost(PalmetteError):
    """Another process of the job cannot be reached any more."""


def number() -> int:
    """The number of this process, from 0."""
    return int(os.environ.get("RANK", "0")) if count() > 1 else 0


def count() -> int:
    """How many processes do the job."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process writes files and reports."""
    return number() == 0


def check_alone(what: str) -> None:
    """Check that a job was not started in several processes. It is one that does more than to train.

    Args:
        what: the job, for the message.

    Raises:
        RunError: it was.
    """
    if count() > 1:
        raise RunError(
            f"{what} was started as one of {count()} processes, and they share only a training of a single stage",
            "Start it without torchrun or accelerate launch.",
        )


def share(costs: Sequence[int]) -> list[int]:
    """The indices of the things that this process does, of things that cost so much."""
    return balanced(costs, count())[number()]


def balanced(costs: Sequence[int], parts: int) -> list[list[int]]:
    """Divide things among processes, so that the costs of each add up to much the same.

    The costliest first, each goes to the process with the least so far, the first of them on a tie.

    >>> balanced([5, 4, 3, 2, 2], 2)
    [[0, 3, 4], [1, 2]]

    Args:
        costs: the cost of each thing.
        parts: the number of processes.

    Returns:
        The indices of each process in rising order. Every index occurs once. A process may have none.
    """
    shares: list[list[int]] = [[] for _ in range(parts)]
    heap = [(0, part) for part in range(parts)]
    for index in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        used, part = heap[0]
        shares[part].append(index)
        heapq.heapreplace(heap, (used + costs[index], part))
    return [sorted(one) for one in shares]


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Within the block, the processes can exchange values.

    Raises:
        RunError: the environment names several processes, but they cannot reach one another.
    """
    import torch
    from torch.distributed.rendezvous import rendezvous

    if count() == 1 or torch.distributed.is_initialized():
        yield
        return
    gpus = torch.cuda.is_available()
    if gpus:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    try:
        meeting = rendezvous("env://", number(), count(), timeout=_FOR_THE_FIRST_TIME)
        store, rank, world_size = next(meeting)
        torch.distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if gpus else "gloo",
            store=store,
            rank=rank,
            world_size=world_size,
            timeout=_LONGEST_WAIT,
        )
    except (RuntimeError, ValueError) as error:
        raise RunError(
            f"WORLD_SIZE is {count()}, but the processes cannot reach one another: {reason_of(error)}",
            "Start them with torchrun or accelerate launch, or take WORLD_SIZE out of the environment.",
        ) from error
    try:
        yield
    finally:
        # A divided model holds the group, and its modules hold one another. If the group lived on, its threads could
        # meet the interpreter at its end, which aborts the process.
        gc.collect()
        torch.distributed.destroy_process_group()


def gather(value: T) -> list[T]:
    """The values of all processes, by their numbers. Every process must call this.

    Raises:
        ProcessLost: another process has ended.
    """
    import torch

    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    _exchange(lambda: torch.distributed.all_gather_object(values, value))
    return values


def from_main(value: T) -> T:
    """The value of process 0. Every process must call this. Errors as for `gather`."""
    import torch

    if count() == 1:
        return value
    values: list[Any] = [value]
    _exchange(lambda: torch.distributed.broadcast_object_list(values, src=0))
    return values[0]  # type: ignore[no-any-return]


def add_up(tensor: torch.Tensor) -> None:
    """Replace a tensor by its sum over the processes. Every process must call this. Errors as for `gather`."""
    import torch

    if count() > 1:
        _exchange(lambda: torch.distributed.all_reduce(tensor))


def highest(value: int) -> int:
    """The highest of the values of all processes. Every process must call this. Errors as for `gather`."""
    import torch

    if count() == 1:
        return value
    held = torch.tensor(value)
    _exchange(lambda: torch.distributed.all_reduce(held, op=torch.distributed.ReduceOp.MAX))
    return int(held)


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Run a block in every process. It fails in all of them if it fails in one.

    Within the block the processes must not exchange anything.

    Raises:
        AnotherFailed: it failed in another process. Process 0 raises an error that says in which one, and why.
        ProcessLost: another process has ended.
    """
    if count() == 1:
        yield
        return
    failure: Exception | None = None
    try:
        yield
    except Exception as error:
        failure = error
    failures = gather(None if failure is None else reason_of(failure))
    if failure is not None and (is_main() or failures[0] is None):
        raise failure
    first = next(((one, why) for one, why in enumerate(failures) if why is not None), None)
    if first is not None:
        raise AnotherFailed(f"process {first[0]} of {count()} failed: {first[1]}", "Mend that, and start all again.")


def _exchange(do: Callable[[], Any]) -> None:
    try:
        do()
    except RuntimeError as error:  # of gloo and NCCL, whose own kinds of errors are below this one
        raise ProcessLost(
            f"process {number()} of {count()} lost contact with the others: {reason_of(error)}",
            "Look at the output of the process that ended first.",
        ) from error
