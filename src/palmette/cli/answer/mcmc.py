"""`palmette mcmc`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import MODEL, PATH, SeedOption, expanded
from palmette.encoders.settings import McmcSettings

if TYPE_CHECKING:  # commands import what they need when they run
    from collections.abc import Sequence

    from palmette.cli.tables import TextTable
    from palmette.encoders.summary import Point


TextArgument = Annotated[
    str,
    typer.Argument(
        help='A text with blanks, such as "The ____ is ____.". Of a text without blanks, every word may change.',
        metavar="TEXT",
    ),
]
MaskedModelOption = Annotated[
    str,
    typer.Option(
        help="A run of `palmette train mlm`, the encoder that it started from, a masked language model's folder, or a "
        "hub id.",
        **MODEL,
    ),
]
KeepOption = Annotated[
    list[str] | None,
    typer.Option(help="A word that stays, in a text without blanks. It may be given several times.", metavar="WORD"),
]
ToOption = Annotated[str | None, typer.Option(help="Go from the text to this one, word by word.", metavar="TEXT")]
PointsOption = Annotated[int, typer.Option(min=1, help="Points between the two texts of --to.")]
PullOption = Annotated[float, typer.Option(min=0, help="Nats that a word of neither of these two texts costs.")]
QuestionOption = Annotated[
    str | None, typer.Option(help="A question that a reader must answer with one of the blanks.")
]
ReaderOption = Annotated[str, typer.Option(help="The model that answers it.", **MODEL)]
BlankOption = Annotated[int, typer.Option(min=1, help="The blank that must be the answer, counted from 1.")]
WeightOption = Annotated[float, typer.Option(min=0, help="How much the reader's answer counts beside the text.")]
ChainsOption = Annotated[int, typer.Option(min=1, help="Number of chains.")]
StepsOption = Annotated[int, typer.Option(min=1, help="Steps of each chain.")]
TemperatureOption = Annotated[
    float, typer.Option(min=0.01, help="Temperature of the law. Lower ones prefer likelier texts.")
]
AnnealOption = Annotated[
    float | None, typer.Option(min=0.01, help="Let the temperature fall to this one, to look for a likely text.")
]
BlockOption = Annotated[
    int | None, typer.Option(min=1, help="Most words that change together. By default 3, and 1 with --gibbs.")
]
ProposalOption = Annotated[float, typer.Option(min=0.01, help="Temperature of the words that are proposed.")]
GibbsOption = Annotated[
    bool, typer.Option("--gibbs", help="Accept every proposal, for comparison. This samples no known law.")
]


def read_settings(
    text: TextArgument,
    model: MaskedModelOption,
    keep: KeepOption = None,
    to: ToOption = None,
    points: PointsOption = 3,
    pull: PullOption = 12.0,
    question: QuestionOption = None,
    reader: ReaderOption = "reader",
    blank: BlankOption = 1,
    weight: WeightOption = 1.0,
    chains: ChainsOption = 4,
    steps: StepsOption = 500,
    temperature: TemperatureOption = 1.0,
    anneal_to: AnnealOption = None,
    block: BlockOption = None,
    proposal_temperature: ProposalOption = 1.0,
    gibbs: GibbsOption = False,
    seed: SeedOption = 0,
) -> McmcSettings:
    """What is sampled, and how: what the options say. They are listed only in this signature."""
    return McmcSettings(
        model=model,
        text=text,
        keep=tuple(keep or ()),
        to=to,
        points=points,
        pull=pull,
        chains=chains,
        steps=steps,
        temperature=temperature,
        anneal_to=anneal_to,
        rule="gibbs" if gibbs else "metropolis",
        block=block,
        proposal_temperature=proposal_temperature,
        seed=seed,
        question=question,
        reader=reader,
        blank=blank,
        weight=weight,
    )


@expanded("settings", read_settings)
def mcmc(
    settings: McmcSettings,
    out: Annotated[
        Path,
        typer.Option(help="Folder for the results. The same command continues a job that was stopped.", **PATH),
    ],
) -> None:
    """Fill the blanks of a text with an encoder.

    Chains of texts are drawn by Metropolis-Hastings, so the words go together. The folder gets the texts with their
    energies (samples.jsonl), every step (trace.jsonl), how well the chains moved (result.json), and a page (mcmc.html).
    """
    from palmette.cli.console import stderr, stdout
    from palmette.startup import quick_imports

    with quick_imports(freeze=True):
        from palmette.encoders.job import prepare_chains, run_chains
        from palmette.encoders.summary import summarize, write_result
        from palmette.pages.mcmc import PAGE, conclusion, write_mcmc_page

    news = stderr()
    ready = prepare_chains(settings, news.print)
    try:
        lines = list(run_chains(ready, out))
    except KeyboardInterrupt as stop:
        news.print(f"stopped. The same command goes on in {out}.")
        raise typer.Exit(130) from stop
    found = summarize(ready, lines)
    write_mcmc_page(out, settings, found)
    write_result(ready, found, out)
    console = stdout()
    console.print(_texts(settings, found), "")
    console.print(_chains(settings, found), "")
    console.print(conclusion(settings, found))
    console.print(f"written: {out / PAGE}")


def _texts(settings: McmcSettings, points: Sequence[Point]) -> TextTable:
    """The texts of lowest energy, or a few of each point of a way."""
    from palmette.cli.tables import TextTable
    from palmette.pages.mcmc import SHOWN_OF_WAY, diagnostics_row, sample_row

    extra = settings.question is not None or settings.to is not None
    way = ["way, %"] if settings.to else []
    table = TextTable("text", *way, "energy, nats", *(["added"] if extra else []), "steps, %")
    for point in points:
        total = sum(sample.visits for sample in point.samples)
        for sample in point.samples[: SHOWN_OF_WAY if settings.to else 8]:
            row = sample_row(sample, total)
            share = [diagnostics_row(point)["share"]] if way else []
            table.add_row(row["text"], *share, row["energy"], *([row["extra"]] if extra else []), row["share"])
    return table


def _chains(settings: McmcSettings, points: Sequence[Point]) -> TextTable:
    """How well the chains moved."""
    from palmette.cli.tables import TextTable
    from palmette.pages.mcmc import diagnostics_row

    way = ["way, %"] if settings.to else []
    table = TextTable(*way, "accepted, %", "changed, %", "effective size", "R-hat", "mean energy", "lowest at step")
    for point in points:
        row = diagnostics_row(point)
        names = (*(["share"] if way else []), "accepted", "moved", "effective", "r_hat", "energy", "first")
        table.add_row(*(row[name] for name in names))
    return table
