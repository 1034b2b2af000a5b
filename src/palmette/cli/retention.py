"""The body of `eval retention`."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from palmette import run
from palmette.cli.console import stderr, stdout
from palmette.evaluate.retention.measure import Settings
from palmette.evaluate.retention.run import PLOT, RESULT, retention_of_model
from palmette.evaluate.retention.scores import Retention
from palmette.model.attention import AttentionChoice
from palmette.model.loading import DType
from palmette.pages.plots import plot_retention


def run_eval_retention(
    model: str,
    base: str | None,
    out: Path | None,
    attention: AttentionChoice | None,
    dtype: DType | None,
    settings: Settings,
) -> None:
    """`palmette eval retention`."""
    if out is not None:
        run.check_absent(out)
    result, record = retention_of_model(model, settings, base=base, attention=attention, dtype=dtype)
    stdout().print(_table(result))
    stderr().print(_remark(result))
    if out is not None:
        with run.whole_folder(out) as staging:
            run.write_json(staging / RESULT, record)
            plot_retention(result, staging / PLOT, title=f"Retention of {Path(model).name}")
        stderr().print(f"written: {out}")


def _table(result: Retention) -> Table:
    """Before and after."""
    found = result.summary()
    before, after = found["untouched"], found["tuned"]
    table = Table(show_edge=False, pad_edge=False)
    for name in ("measure", "untouched", "tuned", "change"):
        table.add_column(name, justify="left" if name == "measure" else "right")
    ratio = found["perplexity_ratio"]
    bits = after["bits_per_byte"] - before["bits_per_byte"]
    table.add_row(
        "perplexity, general text", f"{before['perplexity']:.2f}", f"{after['perplexity']:.2f}", f"x {ratio:.3f}"
    )
    table.add_row(
        "bits per byte, general text", f"{before['bits_per_byte']:.3f}", f"{after['bits_per_byte']:.3f}", f"{bits:+.3f}"
    )
    table.add_row("KL on chat completions (nats per token)", "0.000", f"{found['kl']:.3f}", f"{found['kl']:+.3f}")
    unchanged = found["completions_unchanged"]
    table.add_row("greedy completions unchanged (%)", "100.0", f"{unchanged:.1f}", f"{unchanged - 100.0:+.1f}")
    return table


def _remark(result: Retention) -> str:
    found = result.summary()
    return (
        f"{found['passages_worse']} of {found['passages']} passages ({found['text_tokens']} tokens) have become less likely; "
        f"KL over {found['completion_tokens']} tokens of {found['completions']} completions of the untouched model"
    )
