"""Fine-tuning with Palmette and with TRL's SFTTrainer, side by side in one run: speed, memory, and the loss that they
reach.

Each side trains in a process of its own, so that its memory is its own. They take turns; the one that waits is blocked
on a pipe. Both start from the same weights and take the same optimizer steps over the same tokens (checked by a hash),
and the same code measures on the same held-out documents what they have learned. Where these losses differ by more than
rounding explains, there is no result. `benchmarks/peers.py` says how TRL is set up; unless `--trl` names a setting,
each likely one is tried on a few steps and the fastest is kept. TRL gets no more examples at a time than fit into
memory.

Prints a table; the last line is the ratio alone: Palmette over TRL, questions per second, medians. With
`--palmette-only`, for which TRL need not be there, it is Palmette's questions per second.

    python benchmarks/train.py [--documents 2] [--questions-per-document 0] [--steps 2] [--repeats 3] [--data
        builtin:train] [--trl auto] [--learned-head] [--palmette-only] [--sweep questions length branch] [--values 1 8
        32] [--json PATH] [--plot PATH]

Documents come with all their questions (`--questions-per-document 0`), or with so many each.

`--sweep` adds a table each over questions per document, tokens of a document, and tokens of a question, one document a
step (of 9 questions, unless it is these that change, or `--questions-per-document` says otherwise). Long documents take
TRL minutes a point: `--values` measures some points only, `--json` keeps them, and `benchmarks/sweeps.py` draws the
points of several runs in one plot.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from match import HERE, Match, Result
from settings import GIB, Limits, fastest, setting_of_trl, tokens_that_fit, with_options
from side import PALMETTE
from sweeps import SWEEPS, plot, sweep
from transformers import AutoConfig
from workload import Documents, Workload

from palmette.data.source import read_source
from palmette.model.embedded import DEFAULT_MODEL
from palmette.model.loading import fast_dtype
from palmette.model.tokenizer import load_tokenizer
from palmette.run import machine, write_json

TRL_VERSION = "1.16.0"
MISSING = (
    f"this benchmark compares with TRL {TRL_VERSION}, which is not installed here: "
    f"pip install --no-deps trl=={TRL_VERSION}\n"
    "(what it needs comes with palmette, and in other versions its settings may mean something else), "
    "or give --palmette-only"
)
# Of one document in the sweeps: about what paragraphs of SQuAD v2 have.
USUAL_QUESTIONS = 9


def matmul_peak(dtype: torch.dtype, *, small: bool = False) -> float:
    """The most operations per second that square matrix products of this dtype reach here, in about 2 seconds.

    Args:
        dtype: the dtype.
        small: only small products, for a quick look.
    """
    # A GPU multiplies 8192 x 8192 in milliseconds, so several products follow each other before the clock is read.
    gpu = torch.cuda.is_available()
    sizes, repeats = ([4096, *[8192] * 8], 16) if gpu else ([1024, 1024, *[2048] * 4, *[4096] * 8], 1)
    best, started = 0.0, time.perf_counter()
    for size in sizes[:2] if small else sizes:
        a, b = torch.rand(2, size, size, device="cuda" if gpu else "cpu").to(dtype)
        out = torch.empty_like(a)
        float(out[0, 0])
        before = time.perf_counter()
        for _ in range(repeats):
            torch.matmul(a, b, out=out)
        float(out[0, 0])
        best = max(best, 2 * repeats * size**3 / (time.perf_counter() - before))
        if time.perf_counter() - started > 2:
            break
    return best


def matmul_peaks() -> dict[torch.dtype, float]:
    """`matmul_peak` of the dtypes that are computed in."""
    return {name: matmul_peak(name) for name in (torch.bfloat16, torch.float32)}


def said_of(peaks: dict[torch.dtype, float]) -> str:
    """These peaks in words."""
    return "matmul peak: " + ", ".join(f"{str(name)[6:]} {peak / 1e9:.0f} GFLOP/s" for name, peak in peaks.items())


def setting_lines() -> list[str]:
    """Versions, commit, machine, and those of the processor's flags that matter to matrix products."""
    versions = []
    for name in ("palmette", "trl", "torch", "transformers", "peft", "accelerate", "datasets"):
        with suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    git = ["git", "-C", str(HERE), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout if shutil.which("git") else ""
    cpu = Path("/proc/cpuinfo")
    words = sorted(set(cpu.read_text(encoding="utf-8").split())) if cpu.is_file() else []
    flags = [word for word in words if word.startswith(("amx", "avx2", "avx512f", "avx512_bf16", "avx512_vnni"))]
    return [
        ", ".join(versions),
        f"commit {commit.strip() or 'unknown'}; flags {' '.join(flags) or 'unknown'}",
        str(machine()),
    ]


def named(side: str) -> str:
    """A side as it is printed."""
    return "Palmette" if side == PALMETTE else f"TRL {side}"


def table(results: dict[str, Result], peak: float, counted: str = "questions") -> str:
    """The results as Markdown; `peak` in operations per second, `counted` is what the first rate counts."""
    rows = []
    for side, result in results.items():
        memory = [turn["memory"] / GIB for turn in result.turns]
        cells = {
            "side": named(side),
            f"{counted}/s (least to most)": spread_of(result.rates(counted)),
            "learned tokens/s (least to most)": spread_of(result.rates("learned")),
            "tokens/s": f"{result.rate('tokens'):.0f}",
            "share of matmul peak": f"{100 * result.rate('flops', 'forward_backward') / peak:.0f} %",
            "peak GiB": f"{result.end['peak'] / GIB:.2f}",
            "GiB after first, last turn": f"{memory[0]:.2f}, {memory[-1]:.2f}",
            "seconds to first step": f"{result.setup:.1f}",
            "held-out loss": f"{result.end['loss']:.4f}",
        }
        rows.append(cells)
    lines = [list(rows[0]), ["---", *["---:"] * (len(rows[0]) - 1)], *[list(row.values()) for row in rows]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def computed_by(results: dict[str, Result]) -> str:
    """How each side computed, in words."""
    return "computed by: " + ", ".join(f"{named(side)} {result.end['path']}" for side, result in results.items())


def spread_of(rates: Sequence[float]) -> str:
    """Median, least and most.

    >>> spread_of([4.0, 2.0, 9.0])
    '4.00 (2.00 to 9.00)'
    """
    return f"{statistics.median(rates):.2f} ({min(rates):.2f} to {max(rates):.2f})"


def need_trl() -> None:
    """Refuse to go on without the version of TRL that is compared with.

    Raises:
        SystemExit: it is not installed.
    """
    if TRL_VERSION not in {found.version for found in metadata.distributions(name="trl")}:
        raise SystemExit(MISSING)


def most_apart(untouched: float, loss: float) -> float:
    """How far a loss may be from Palmette's after training (nats): a twentieth of what was learned, or 0.02 after a
    few steps.
    """
    return max(0.02, (untouched - loss) / 20)


def check_losses(untouched: float, losses: dict[str, float], what: str = "held-out loss") -> None:
    """Refuse results of sides that have learned something else.

    Palmette keeps float32 masters and TRL does not, so their losses are close, not equal.

    Args:
        untouched: the loss before training (nats).
        losses: of all sides, after it.
        what: how messages name it.

    Raises:
        SystemExit: a loss is further from Palmette's than `most_apart`.
    """
    most = most_apart(untouched, losses[PALMETTE])
    for side, loss in losses.items():
        # The other way round, NaN would pass.
        if not abs(loss - losses[PALMETTE]) <= most:
            raise SystemExit(
                f"the sides have not learned the same: {what} {losses[PALMETTE]:.4f} of Palmette, "
                f"{loss:.4f} of {named(side)}, "
                f"further apart than {most:.4f} (before training: {untouched:.4f}). So their speeds do not compare."
            )


def headline(results: dict[str, Result], setting: str | None) -> str:
    """The last lines: what the headline says, then the headline alone.

    Args:
        results: of all sides.
        setting: TRL's; None where Palmette ran alone.
    """
    palmette = results[PALMETTE]
    if setting is None:
        return f"Palmette, medians of {len(palmette.turns)} turns:\nquestions/s {palmette.rate('questions'):.2f}"
    said, ratio = compared(palmette, results[setting], "questions")
    return f"Palmette over {named(setting)}, {said}:\nratio {ratio:.1f}"


def compared(palmette: Result, trl: Result, counted: str) -> tuple[str, float]:
    """Palmette's rate over TRL's: in words what is divided and how it varies, and the ratio of the medians."""
    ratios = [a / b for a, b in zip(palmette.rates(counted), trl.rates(counted), strict=True)]
    said = f"{counted} per second, medians of {len(ratios)} turns; turn by turn {min(ratios):.1f} to {max(ratios):.1f}"
    return said, palmette.rate(counted) / trl.rate(counted)


def limits_of(task: Workload, documents: Documents, step: int, memory_tokens: int) -> Limits:
    """What TRL's micro-batches must respect, whichever of the documents meet in a step of so many."""
    sizes = sorted(len(document.questions) for document in documents)
    return Limits(sum(sizes[:step]), sum(sizes[-step:]), task.longest(documents), memory_tokens)


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--documents", type=positive, default=2, help="of an optimizer step")
    parser.add_argument("--questions-per-document", type=int, default=0, help="0: as many as each has")
    parser.add_argument("--steps", type=positive, default=2, help="optimizer steps of a turn")
    parser.add_argument("--repeats", type=positive, default=3, help="turns of each side")
    parser.add_argument("--held-out", type=positive, default=4, help="documents that the loss is measured on")
    parser.add_argument("--data", default="builtin:train", help="any source of palmette, such as a SQuAD v2 file")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--trl", type=setting_of_trl, default="auto", help="padded:N or free:N; auto tries some")
    parser.add_argument("--micro-batch-tokens", type=positive, default=4096, help="the most that auto tries")
    parser.add_argument("--learned-head", action="store_true", help="add a patched TRL as a third side (see peers.py)")
    parser.add_argument("--palmette-only", action="store_true", help="leave TRL out")
    parser.add_argument("--sweep", nargs="+", choices=list(SWEEPS), default=[])
    parser.add_argument("--values", nargs="+", type=positive, help="of the one sweep that is asked for")
    parser.add_argument("--plot", type=Path, help="PNG file for what was swept")
    parser.add_argument("--json", type=Path, help="file for all results")
    options = parser.parse_args()
    if options.questions_per_document < 0:
        parser.error("--questions-per-document is 0, for all, or a number of questions")
    if options.palmette_only and (options.trl != "auto" or options.learned_head):
        parser.error("--palmette-only leaves TRL out: --trl and --learned-head have no meaning then")
    if options.values and len(options.sweep) != 1:
        parser.error("--values belongs to one sweep: give --sweep with one name")
    if options.plot and not options.sweep:
        parser.error("--plot draws what was swept: give --sweep")
    return options


def positive(text: str) -> int:
    """A whole number from 1 on, for the command line."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def compete(
    options: argparse.Namespace, task: Workload, memory_tokens: int
) -> tuple[dict[str, Result], str | None, int]:
    """Choose TRL's setting and let the sides train.

    Returns:
        The results, the setting (None where Palmette runs alone), and the tokens of the longest example.
    """
    step = options.documents
    documents = task.documents(step * (1 + options.steps * options.repeats), options.questions_per_document)
    questions = sum(len(document.questions) for document in documents)
    limits = limits_of(task, documents, step, memory_tokens)
    print(
        f"steps of {step} documents, {questions} questions about {len(documents)} documents, "
        f"examples of up to {limits.longest} "
        f"tokens; held out: {sum(len(document.questions) for document in task.held_out)} questions",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as name:
        folder, chosen = Path(name), None
        if not options.palmette_only:
            chosen = limits.check(options.trl) if options.trl != "auto" else None
            if chosen is None:
                (folder / "trial").mkdir()
                trial = Match(folder / "trial", options.model, documents[: 2 * step], task.held_out, step, 1)
                chosen = fastest(trial, limits.worth_a_try(options.micro_batch_tokens), with_options)
        match = Match(folder, options.model, documents, task.held_out, step, options.steps)
        patched = [f"{chosen}:learned-head"] if options.learned_head else []
        return match.play([PALMETTE, *([chosen] if chosen else []), *patched]), chosen, limits.longest


def sweep_all(
    options: argparse.Namespace, task: Workload, config: Any, trl: tuple[str, int] | None
) -> dict[str, list[dict[str, Any]]]:
    """All sweeps that are asked for, with TRL's setting of the kind, and about as many tokens, as proved best."""
    return {
        what: sweep(
            what,
            options.values or SWEEPS[what][1],
            task,
            model=options.model,
            num_questions=options.questions_per_document or USUAL_QUESTIONS,
            repeats=options.repeats,
            trl=trl,
            memory_tokens=lambda: tokens_that_fit(config, fast_dtype()),
        )
        for what in options.sweep
    }


def main() -> None:
    """Measure and print."""
    options = arguments()
    if not options.palmette_only:
        need_trl()
    dtype, said = fast_dtype(), setting_lines()
    source, tokenizer = read_source(options.data), load_tokenizer(options.model)
    said.append(f"{options.model}, {dtype}, {options.data} (sha256 {source.sha256[:12]})")
    print("\n".join(said), flush=True)
    config = AutoConfig.from_pretrained(tokenizer.name_or_path)
    task = Workload(tokenizer, source.documents, options.held_out)
    peaks = matmul_peaks()
    results, setting, longest = compete(options, task, tokens_that_fit(config, dtype))
    peaks = {name: max(peak, now) for (name, peak), now in zip(peaks.items(), matmul_peaks().values(), strict=True)}
    print(said_of(peaks))
    print(table(results, peaks[dtype]))
    untouched = results[PALMETTE].end["untouched"]
    print(f"held-out loss before training: {untouched:.4f}")
    print(computed_by(results), flush=True)
    check_losses(untouched, {side: result.end["loss"] for side, result in results.items()})
    trl = (setting.split(":")[0], int(setting.split(":")[1]) * longest) if setting else None
    swept = sweep_all(options, task, config, trl)
    if options.json:
        sides = {side: asdict(result) for side, result in results.items()}
        command = " ".join(sys.argv)
        peak = {str(name)[6:]: value for name, value in peaks.items()}
        write_json(options.json, {"command": command, "setting": said, "peak": peak, "sides": sides, "swept": swept})
    if options.plot and swept:
        plot(options.plot, swept)
    print(headline(results, setting))


if __name__ == "__main__":
    main()
