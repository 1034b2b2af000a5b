"""The memory of every way to use a model on a device, and the longest context that fits cards of each size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from palmette.errors import ModelError
from palmette.model.outline import Outline
from palmette.studies.planning.memory import GIB, Device, Method, Need, PlannedWork, longest_context, memory_need

CONTEXTS = (1024, 4096, 8192, 16384, 32768)
# GiB of graphics cards, and of main memory.
SIZES: Mapping[Device, tuple[int, ...]] = {"gpu": (8, 12, 16, 24, 48, 80), "cpu": (8, 16, 32, 64, 128)}
# The share of a card or of main memory that a job may take. The rest is for the screen and other programs.
ROOM = 0.92
_WAYS: tuple[tuple[str, Method, bool], ...] = (
    ("answer questions", "answer", False),
    ("LoRA", "lora", False),
    ("LoRA, checkpointing", "lora", True),
    ("QLoRA, 4 bits", "qlora", False),
    ("QLoRA, 4 bits, checkpointing", "qlora", True),
    ("all weights", "full", False),
    ("all weights, checkpointing", "full", True),
)


@dataclass(frozen=True)
class Way:
    """A way to use a model.

    Attributes:
        name: in words.
        job: what the model does. Its context is the longest of the plan.
        needs: the memory for each context of the plan.
        longest: the longest context, in tokens, for each size of the device. 0 where none fits.
    """

    name: str
    job: PlannedWork
    needs: tuple[Need, ...]
    longest: tuple[int, ...]


@dataclass(frozen=True)
class MemoryPlan:
    """The memory of a model on a device.

    Attributes:
        device: the device.
        contexts: tokens of the longest row.
        sizes: GiB that the device may have.
        ways: the ways to use it.
    """

    device: Device
    contexts: tuple[int, ...]
    sizes: tuple[int, ...]
    ways: tuple[Way, ...]

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON, in bytes and tokens."""
        return {
            "device": self.device,
            "ways": [
                {
                    "name": way.name,
                    **{key: value for key, value in asdict(way.job).items() if key not in ("context", "device")},
                    "bytes": {
                        str(context): {"total": need.total, "loading": need.loading, **need.parts}
                        for context, need in zip(self.contexts, way.needs, strict=True)
                    },
                    "longest_context": dict(zip(map(str, self.sizes), way.longest, strict=True)),
                }
                for way in self.ways
            ],
        }


def chosen_contexts(outline: Outline, given: Sequence[int]) -> tuple[int, ...]:
    """The contexts of a plan: those that were given, or `CONTEXTS` as far as the model has positions.

    Raises:
        ModelError: the model has fewer positions than a context that was given.
    """
    most = outline.num_positions
    for context in given:
        if most is not None and context > most:
            raise ModelError(
                f"a context of {context:,} tokens is longer than the model's {most:,} positions",
                "Give a shorter one, or plan for another model.",
            )
    fitting = tuple(context for context in CONTEXTS if most is None or context <= most)
    return tuple(sorted(set(given))) or fitting or (most or CONTEXTS[0],)


def make_plan(
    outline: Outline,
    device: Device,
    contexts: Sequence[int],
    *,
    learned: int = 300,
    rank: int = 16,
    value_bytes: int = 2,
) -> MemoryPlan:
    """The memory of every way to use a model on a device. A CPU has no training in 4 bits.

    Args:
        outline: the model.
        device: the device.
        contexts: tokens of the longest row.
        learned: tokens of a row that are learned, at most the context.
        rank: rank of an adapter on all linear layers.
        value_bytes: bytes of a weight or activation.
    """
    sizes, ways = SIZES[device], []
    for name, method, checkpointing in _WAYS:
        if device == "cpu" and method == "qlora":
            continue
        job = PlannedWork(method, device, max(contexts), checkpointing, learned, rank, value_bytes)
        jobs = [replace(job, context=context, learned=min(learned, context)) for context in contexts]
        longest = tuple(longest_context(outline, job, int(ROOM * size * GIB)) for size in sizes)
        ways.append(Way(name, job, tuple(memory_need(outline, one) for one in jobs), longest))
    return MemoryPlan(device, tuple(contexts), sizes, tuple(ways))
