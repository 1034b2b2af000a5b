"""Which settings of TRL's trainer are worth a try (`benchmarks/peers.py` says what they are), and which fit into
memory.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psutil
import torch
from match import Contest

GIB = 2**30
# Palmette's side is in memory too, and the estimate below is one.
MEMORY_SHARE = 0.6


@dataclass(frozen=True)
class Limits:
    """What micro-batches must respect.

    Attributes:
        fewest: examples of the smallest step; no step can be cut into more micro-batches.
        most: examples of the largest step.
        longest: tokens of the longest example.
        memory_tokens: tokens of a micro-batch that fit into memory.
    """

    fewest: int
    most: int
    longest: int
    memory_tokens: int

    def sizes(self) -> list[int]:
        """Examples of a micro-batch, largest first, that cut steps in different ways and fit into memory.

        >>> Limits(fewest=3, most=18, longest=300, memory_tokens=3000).sizes()
        [9, 6]
        """
        sizes = sorted({-(-self.most // parts) for parts in range(1, self.fewest + 1)}, reverse=True)
        return [size for size in sizes if size * self.longest <= self.memory_tokens]

    def check(self, setting: str) -> str:
        """The setting itself, or with smaller micro-batches, which is said.

        Raises:
            SystemExit: no micro-batches will do.
        """
        kind, size, *extra = setting.split(":")
        sizes = self.sizes()
        fits = min(int(size), self.most, self.memory_tokens // self.longest)
        if not sizes or fits < sizes[-1]:
            raise SystemExit(
                f"TRL {setting}: every step is cut into as many micro-batches. "
                f"The largest step has {self.most} questions of up to "
                f"{self.longest} tokens, the smallest {self.fewest}, and {self.memory_tokens} tokens fit into memory.\n"
                + (f"Give {kind}:{sizes[-1]} to {kind}:{sizes[0]}" if sizes else "Give shorter or fewer documents")
                + ", or the same number of questions to all: --questions-per-document N."
            )
        if fits < int(size):
            why = f"a step has at most {self.most} questions" if fits == self.most else f"more {self._too_much()}"
            print(f"TRL {setting} becomes {kind}:{fits}: {why}", flush=True)
        return ":".join((kind, str(fits), *extra))

    def worth_a_try(self, tokens: int) -> list[str]:
        """Settings with micro-batches of at most `tokens` tokens, if possible, and never more than fits into memory.

        >>> Limits(fewest=18, most=18, longest=350, memory_tokens=10_000).worth_a_try(4096)
        ['padded:9', 'padded:6', 'padded:5', 'free:9', 'free:4']
        """
        sizes = self.sizes()
        small = [size for size in sizes if size * self.longest <= tokens] or sizes[-1:]
        if self.memory_tokens < min(tokens, self.most * self.longest):
            print(f"TRL's micro-batches are smaller than asked for: more {self._too_much()}", flush=True)
        several = [size for size in small if size > 1]
        joined = dict.fromkeys([*several[:1], *[size for size in several if size <= 4][:1]])
        return [f"padded:{size}" for size in small[:3]] + [f"free:{size}" for size in joined]

    def _too_much(self) -> str:
        return f"than {self.memory_tokens} tokens would not fit into {free_memory() / GIB:.1f} GiB of free memory"


def setting_of_trl(text: str) -> str:
    """Check a setting's form, for the command line."""
    if text != "auto" and not re.fullmatch("(padded|free):[1-9][0-9]*(:(compile|eager))?", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is none of auto, padded:N and free:N, N = 1, 2, 3, ..., and maybe :compile or :eager"
        )
    return text


def bytes_per_token(config: Any, dtype: torch.dtype) -> int:
    """Memory that TRL's trainer takes for each token of a micro-batch, roughly: activations, and logits with their
    gradients.

    The factors are rounded up: SmolLM2-135M in bfloat16 on a CPU took 1.7 to 2.3 MB a token in all, this says 2.9.
    """
    text = config.get_text_config()
    activations = text.num_hidden_layers * (14 * text.hidden_size + 9 * text.intermediate_size) * dtype.itemsize
    return int(activations + 8 * 4 * text.vocab_size)


def free_memory() -> int:
    """Bytes that are free where the model will be."""
    return int(torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else psutil.virtual_memory().available)


def tokens_that_fit(config: Any, dtype: torch.dtype) -> int:
    """Tokens of the largest micro-batch that TRL may be given now."""
    return int(MEMORY_SHARE * free_memory()) // bytes_per_token(config, dtype)


def fastest(match: Contest, settings: Sequence[str], options: Callable[[str], Sequence[str]] = lambda _: ()) -> str:
    """The setting with the quickest turn; one that fails is left out, and said to be.

    Args:
        match: where a side takes one turn.
        settings: what is tried first.
        options: from the fastest of these, what is tried then.
    """
    seconds = _seconds(match, settings)
    if not seconds:
        raise SystemExit("TRL runs in none of these settings here: see --micro-batch-tokens, --documents")
    seconds |= _seconds(match, options(min(seconds, key=seconds.__getitem__)))
    return min(seconds, key=seconds.__getitem__)


def _seconds(match: Contest, settings: Sequence[str]) -> dict[str, float]:
    seconds: dict[str, float] = {}
    for setting in settings:
        with closing(match.worker(setting)) as worker:
            try:
                worker.receive()
                seconds[setting] = worker.go_on()["seconds"]
                print(f"  TRL {setting}: {seconds[setting]:.1f} s", flush=True)
            except RuntimeError as error:
                print(f"  TRL {setting} is left out: {error}", flush=True)
    return seconds


def with_options(setting: str) -> list[str]:
    """The same setting with each of TRL's options that might help it on a CPU, and are not in `Limits.worth_a_try`."""
    return [f"{setting}:{option}" for option in ("eager", "compile")]
