"""What works on this machine's GPU, how fast it is, and how much memory it takes, in at most eight minutes.

    python benchmarks/gpu_check.py [--out gpu-check.json] [--parts attention ...]
    python benchmarks/gpu_check.py --tiny

Nothing is downloaded: models of the shapes of Llama 3.2 1B and Llama 3 8B have random weights, and SmolLM2-135M takes
part where its file is at hand. Each part runs in a process of its own with a time limit, and the next one follows
whatever came of it. A table is printed and all figures are written as JSON. The exit code is 1 if a part failed.

`--tiny` runs all parts on a CPU with tiny shapes, to see that the script works. Its figures say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from gpu.parts import Outcome, Part, Row, run_part, table

SECONDS = 480
NO_GPU = "torch sees no GPU here: give --tiny to try the script on the CPU, or install a build of torch for your GPU"


def measured(module: str, function: str, *arguments: Any) -> Iterable[Row]:
    """What a function in a module of `gpu/` measures. Only the process of its part imports it."""
    rows: Iterable[Row] = getattr(import_module(f"gpu.{module}"), function)(*arguments)
    return rows


PARTS = (
    Part("machine", 40, partial(measured, "training", "measure_machine")),
    Part("attention", 120, partial(measured, "attention", "measure")),
    Part("1B", 90, partial(measured, "training", "measure", "1B")),
    Part("8B", 100, partial(measured, "training", "measure", "8B")),
    Part("8B, 4 bits", 90, partial(measured, "training", "measure_quantized", "8B")),
    Part("TRL", 60, partial(measured, "rival", "measure", "1B")),
    Part("decoding", 50, partial(measured, "decoding", "measure", "1B")),
    Part("SmolLM2-135M", 50, partial(measured, "decoding", "measure_smollm2")),
)


def run_parts(parts: Sequence[Part], tiny: bool, seconds: float = SECONDS) -> list[Outcome]:
    """Run parts one after the other, in so many seconds together. What does not begin in time is left out."""
    outcomes, started = [], time.monotonic()
    for part in parts:
        left = started + seconds - time.monotonic()
        if left < 1:
            outcomes.append(Outcome(part.name, "skipped", f"the {seconds:.0f} seconds of the check are over"))
        else:
            outcomes.append(run_part(part, tiny, min(part.seconds, left)))
        last = outcomes[-1]
        said = f"{last.status}{': ' * bool(last.reason)}{last.reason}"
        print(f"{last.name}: {said} ({last.seconds:.0f} s)", file=sys.stderr, flush=True)
    return outcomes


def main() -> None:
    """Run all parts and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    names = [part.name for part in PARTS]
    parser.add_argument("--tiny", action="store_true", help="all parts on the CPU, with tiny shapes")
    parser.add_argument("--out", type=Path, default=Path("gpu-check.json"), help="file for all figures")
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="PART", help=", ".join(names))
    options = parser.parse_args()
    if options.tiny:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch

    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit(NO_GPU)
    chosen = [part for part in PARTS if part.name in options.parts]
    if options.tiny:  # once for all parts, which are forks
        for module in ("attention", "training", "rival", "decoding"):
            import_module(f"gpu.{module}")
    started = time.monotonic()
    outcomes = run_parts(chosen, options.tiny)
    held = {"command": " ".join(sys.argv), "tiny": options.tiny, "seconds": round(time.monotonic() - started, 1)}
    options.out.write_text(
        json.dumps({**held, "parts": [one.to_json() for one in outcomes]}, indent=1), encoding="utf-8"
    )
    print(table(outcomes))
    print(f"wrote {options.out}")
    if any(outcome.status in ("failed", "stopped") for outcome in outcomes):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
