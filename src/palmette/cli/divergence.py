"""`palmette eval divergence`: how far a policy has gone from its reference, and what its sampled completions earn.

The policy draws completions as in training (`rollouts/batch.py`), and both models score them with the forward pass of training, on the same
packed trees; so a model is exactly 0 away from itself. Memory holds one model at a time. An adapter is not merged into its base: in
bfloat16 that would round part of a small change away.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from palmette.evaluate.divergence.measure import DivergenceSettings, measure_divergence

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.evaluate.divergence.result import Divergence

RESULT, COMPLETIONS = "divergence.json", "completions.jsonl"
_REWARD = "exact=1,valid_json=0.2"
# What the terminal calls each figure, and what it multiplies it by.
_LABELS = {
    "completion_kl": ("KL to the reference, nats a completion", 1.0),
    "completion_kl_k3": ("  the same by k3", 1.0),
    "token_kl": ("KL, nats a token", 1.0),
    "token_kl_k3": ("  the same by k3", 1.0),
    "entropy": ("entropy, nats a token", 1.0),
    "completion_tokens": ("tokens a completion", 1.0),
    "ended": ("came to an end (%)", 100.0),
    "reward": ("reward, weighted", 1.0),
    "sampled_exact": ("exact match (%)", 100.0),
    "sampled_f1": ("F1 (%)", 100.0),
    "sampled_valid_json": ("valid JSON (%)", 100.0),
    "sampled_abstention": ("abstained exactly where it should (%)", 100.0),
    "sampled_abstained": ("abstained (%)", 100.0),
}


def eval_divergence(
    model: Annotated[str, typer.Option(help="The policy: a run folder, a model folder, a GGUF file, or a hub id.")],
    reference: Annotated[str, typer.Option(help="What it is held against: the run or model that it began from, say.")],
    data: Annotated[str, typer.Option(help="builtin:test, a SQuAD v2 .json, a .jsonl, or a hub data set.")],
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help=f"Folder for {RESULT} and {COMPLETIONS}, which must not exist."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Completions to each question, drawn at temperature 1.")] = 2,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where a completion is cut.")] = 64,
    reward: Annotated[
        str, typer.Option(help="Weights of abstention, exact, f1, valid_json; each is reported by itself too.")
    ] = _REWARD,
    limit: Annotated[Optional[int], typer.Option(min=1, help="Use the first N documents only.")] = None,  # noqa: UP045
    tokens_per_batch: Annotated[int, typer.Option(min=64, help="Tokens held at once.")] = 4096,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
) -> None:
    """Measure how far an aligned policy has gone from its reference on questions, and what its sampled completions earn."""
    from palmette import run
    from palmette.cli.console import stderr
    from palmette.data.source import read_source
    from palmette.evaluate.record import HELD_OUT_SPLIT
    from palmette.tasks.rewards import parse_weights

    if out is not None:
        out = out.expanduser()
        run.check_absent(out)
    settings = DivergenceSettings(samples, max_new_tokens, seed, tokens_per_batch, parse_weights(reward))
    source = read_source(data, default_split=HELD_OUT_SPLIT, limit_documents=limit)
    found = measure_divergence(model, reference, source, settings)
    _show(found)
    if out is not None:
        _write(found, out)
        stderr().print(f"written: {out}")


def _show(found: Divergence) -> None:
    from rich.table import Table

    from palmette.cli.console import stdout

    table = Table(show_edge=False, pad_edge=False)
    table.add_column(f"{len(found.completions)} sampled completions")
    for name in ("value", "95 % interval"):
        table.add_column(name, justify="right")
    for name, value in found.measures.items():
        label, scale = _LABELS.get(name, (name, 1.0))
        digits = 1 if scale > 1 or name == "completion_tokens" else 3
        ends = found.intervals.get(name)
        shown = " to ".join(f"{scale * end:.{digits}f}" for end in ends) if ends else ""
        table.add_row(label, f"{scale * value:.{digits}f}", shown)
    stdout().print(table)


def _write(found: Divergence, out: Path) -> None:
    import json

    from palmette import run

    with run.whole_folder(out) as staging:
        run.write_json(staging / RESULT, found.to_json())
        lines = (json.dumps(line, ensure_ascii=False) + "\n" for line in found.lines())
        run.write_text(staging / COMPLETIONS, "".join(lines))
