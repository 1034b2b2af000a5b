"""Continued pre-training with Palmette and with TRL's SFTTrainer, side by side in one run, on the same pieces of text:
speed, share of the matmul peak, memory, and the loss that they reach.

Each side trains in a process of its own, and they take turns, as in `benchmarks/train.py`. TRL runs in each of the
settings that are named: `free:N` is its packing, `padded:N` is a piece a row (`benchmarks/pretrain_peers.py`). The last
line is Palmette's tokens per second over those of TRL's fastest setting, medians.

    python benchmarks/pretrain.py [--data FILE] [--pieces 8] [--piece-tokens 256] [--steps 1] [--repeats 3]
        [--trl free:8 padded:2] [--palmette-only] [--json PATH]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from match import Contest
from pretrain_peers import TextJob
from side import PALMETTE
from train import (
    check_losses,
    compared,
    computed_by,
    matmul_peaks,
    named,
    need_trl,
    positive,
    said_of,
    setting_lines,
    table,
)

from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.loading import fast_dtype
from palmette.run import write_json


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", default="builtin:train", help="texts, as `palmette train pretrain` takes them")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--pieces", type=positive, default=8, help="of an optimizer step")
    parser.add_argument("--piece-tokens", type=positive, default=256)
    parser.add_argument("--steps", type=positive, default=1, help="optimizer steps of a turn")
    parser.add_argument("--repeats", type=positive, default=3, help="turns of each side")
    parser.add_argument("--trl", nargs="+", default=["free:8", "padded:2"], help="settings of TRL")
    parser.add_argument("--palmette-only", action="store_true", help="leave TRL out")
    parser.add_argument("--json", type=Path, help="file for all results")
    return parser.parse_args()


def main() -> None:
    """Measure and print."""
    options = arguments()
    if not options.palmette_only:
        need_trl()
    said = [*setting_lines(), f"{options.model}, {fast_dtype()}, {options.data}"]
    said.append(f"steps of {options.pieces} pieces of up to {options.piece_tokens} tokens")
    print("\n".join(said), flush=True)
    num_pieces = options.pieces * (1 + options.steps * options.repeats)
    settings = {"documents": options.pieces, "warmup": 1, "steps": options.steps}
    texts = {"piece_tokens": options.piece_tokens, "num_pieces": num_pieces}
    job = TextJob("", options.model, options.data, "", "", **settings, **texts)
    peaks = matmul_peaks()
    with tempfile.TemporaryDirectory() as name:
        contest = Contest(Path(name), "pretrain_peers.py", job, options.repeats)
        results = contest.play([PALMETTE, *([] if options.palmette_only else options.trl)])
    peaks = {kind: max(peak, now) for (kind, peak), now in zip(peaks.items(), matmul_peaks().values(), strict=True)}
    print(said_of(peaks))
    print(table(results, peaks[fast_dtype()]))
    untouched = results[PALMETTE].end["untouched"]
    print(f"held-out loss before training: {untouched:.4f}")
    print(computed_by(results), flush=True)
    check_losses(untouched, {side: result.end["loss"] for side, result in results.items()})
    if options.json:
        sides = {side: asdict(result) for side, result in results.items()}
        write_json(options.json, {"command": " ".join(sys.argv), "setting": said, "sides": sides})
    if options.palmette_only:
        print(f"tokens/s {results[PALMETTE].rate('tokens'):.0f}")
        return
    rival = max(options.trl, key=lambda side: results[side].rate("tokens"))
    counted, ratio = compared(results[PALMETTE], results[rival], "tokens")
    memory = results[rival].end["peak"] / results[PALMETTE].end["peak"]
    print(
        f"Palmette over {named(rival)}, {counted}; its peak memory is {memory:.2f} times Palmette's:\nratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
