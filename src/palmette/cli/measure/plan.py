"""`palmette plan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.cli.options import MODEL

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.cli.tables import TextTable
    from palmette.model.outline import Outline
    from palmette.studies.planning.plan import MemoryPlan

_DEVICES = {"gpu": "On a GPU", "cpu": "On a CPU"}


def plan(
    model: Annotated[
        str,
        typer.Argument(
            help="A run folder, a model folder, a GGUF file, or a hub id. Only its configuration is read.", **MODEL
        ),
    ],
    context: Annotated[
        list[int] | None,
        typer.Option(
            min=64,
            help="Tokens of the longest document with its questions. It may be given several times. By default 1,024 "
            "and more, as far as the model goes.",
        ),
    ] = None,
    learned: Annotated[
        int, typer.Option(min=1, help="Learned tokens of a document. Logits are computed for these only.")
    ] = 300,
    rank: Annotated[int, typer.Option(min=1, help="Rank of a LoRA adapter on all linear layers.")] = 16,
    device: Annotated[Literal["gpu", "cpu", "both"], typer.Option(help="Where the model is to run.")] = "both",
    dtype: Annotated[
        Literal["bfloat16", "float32"],
        typer.Option(help="Data type of weights and activations. CPUs without bfloat16 instructions use float32."),
    ] = "bfloat16",
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON, in bytes and tokens.")] = False,
) -> None:
    """Say how much memory a model needs, and what fits which card.

    The figures are arithmetic. No weights are loaded, and of a model of the hub only config.json is fetched.
    """
    from dataclasses import asdict

    from palmette.cli.console import print_json, stdout
    from palmette.numbers import readable
    from palmette.studies.planning.plan import chosen_contexts, make_plan
    from palmette.studies.planning.source import read_outline

    outline = read_outline(model)
    contexts = chosen_contexts(outline, context or ())
    devices: tuple[Literal["gpu", "cpu"], ...] = ("gpu", "cpu") if device == "both" else (device,)
    options = {"learned": learned, "rank": rank, "value_bytes": 2 if dtype == "bfloat16" else 4}
    plans = [make_plan(outline, one, contexts, **options) for one in devices]
    if as_json:
        print_json({"model": model, "outline": asdict(outline), "plans": [one.to_json() for one in plans]})
        return
    console = stdout()
    console.print(described(model, outline))
    for one in plans:
        console.print(f"\n{_DEVICES[one.device]}, GB at the peak by tokens of context", style="bold")
        console.print(needs_table(one), "")
        console.print("Longest context that fits", style="bold")
        console.print(longest_table(one))
    if device != "cpu":
        whole = readable(outline.num_parameters * options["value_bytes"] / 1e9, 2)
        console.print(f"\nOn the way to a GPU, weights pass through main memory: {whole} GB. 4 bits need less.")
    console.print(
        f"\nA row of one document with {learned:,} learned tokens, rank {rank}, {dtype}. Arithmetic: allow for 15 %. "
        "No context is longer than the model's own."
    )


def described(name: str, outline: Outline) -> str:
    """A model in two lines."""
    from palmette.numbers import readable

    positions = f"{outline.num_positions:,}" if outline.num_positions else "no limit of"
    stored = f", stored as {outline.stored_dtype}" if outline.stored_dtype else ""
    return (
        f"{name}: {outline.family}, {readable(outline.num_parameters / 1e6)} million parameters{stored}\n"
        f"{outline.num_layers} layers of width {outline.hidden_size:,}, {outline.num_heads} heads and "
        f"{outline.num_key_heads} key heads, a vocabulary of {outline.vocabulary:,}, {positions} positions"
    )


def needs_table(plan: MemoryPlan) -> TextTable:
    """The peak of every way to use a model, by context, in GB."""
    from palmette.cli.console import plain_table

    table = plain_table("to", *(f"{context:,}" for context in plan.contexts))
    for way in plan.ways:
        table.add_row(way.name, *(_gigabytes(need.total) for need in way.needs))
    return table


def _gigabytes(num_bytes: float) -> str:
    """Two digits, also where the second one is a zero: a column of 1.9, 2.0 and 2.1."""
    from palmette.numbers import fixed, readable

    value = num_bytes / 1e9
    return fixed(value) if 0.95 <= value < 9.95 else readable(value, 2)


def longest_table(plan: MemoryPlan) -> TextTable:
    """The longest context of every way to use a model, by the size of the device."""
    from palmette.cli.console import plain_table

    table = plain_table("to", *(f"{size} GiB" for size in plan.sizes))
    for way in plan.ways:
        table.add_row(way.name, *(f"{tokens:,}" if tokens else "no" for tokens in way.longest))
    return table
