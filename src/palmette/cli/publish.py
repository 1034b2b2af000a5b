"""`palmette merge` and `palmette push`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from palmette.cli.options import PATH, FinishedRun

DType = Literal["auto", "float32", "bfloat16", "float16"]
LicenceOption = Annotated[
    str | None,
    typer.Option(
        metavar="LICENCE",
        help="Licence of what is published, such as apache-2.0. By default the base model's, if known.",
    ),
]
DataLicenceOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LICENCE", help="Licence of the training data: LICENCE for all, or SOURCE=LICENCE. May be repeated."
    ),
]


def merge(
    run: FinishedRun,
    out: Annotated[Path, typer.Option(help="Folder for the merged model. It must not exist.", **PATH)],
    dtype: Annotated[
        DType,
        typer.Option(
            help="Data type of the merged weights. auto is that of the run. Merging takes 4 bytes a parameter."
        ),
    ] = "auto",
) -> None:
    """Merge a run's adapter into its model's weights.

    The result is a model folder that transformers can load.
    """
    from palmette.cli.console import invoked_as, stderr
    from palmette.config.recipes import load_run_recipe
    from palmette.inference.names import check_run_folder

    check_run_folder(run)
    from palmette.model.loading import dtype_name
    from palmette.publish.merge import merge_run
    from palmette.run import RECIPE

    written, news = dtype_name(merge_run(run, out, dtype)), stderr()
    if load_run_recipe(run / RECIPE).model.quantization:
        news.print(
            "The adapter was trained on a quantized base and merged into the unquantized one. Evaluate the result."
        )
    news.print(f"Merged into {out}, in {written}. Both transformers and {invoked_as()} load it like any model.")


def push(
    run: FinishedRun,
    to: Annotated[str, typer.Option(metavar="USER/NAME", help="The repository on the Hugging Face hub, as USER/NAME.")],
    merged: Annotated[bool, typer.Option("--merged", help="Upload the merged model instead of the adapter.")] = False,
    dtype: Annotated[DType, typer.Option(help="Data type of a merged model. auto is that of the run.")] = "auto",
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder that `palmette eval squad` wrote for this run, for figures on the card. May be repeated.",
            **PATH,
        ),
    ] = None,
    licence: LicenceOption = None,
    data_licence: DataLicenceOption = None,
    base_model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Hub id of the base model, where the run names a folder or file of this machine."
        ),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Upload to a repository that exists already.")] = False,
    dry_run: Annotated[
        Path | None,
        typer.Option(
            help="Upload nothing, and write what would be uploaded into this folder. It must not exist.", **PATH
        ),
    ] = None,
) -> None:
    """Upload a run to the Hugging Face hub, with a model card.

    The card shows data, recipe, figures, example of use, limits and licence.
    """
    from palmette.cli.console import stderr
    from palmette.evaluate.squad import METRICS
    from palmette.inference.names import check_run_folder
    from palmette.inference.nearby import check_there

    check_run_folder(run)
    evaluations = evaluation or []
    for folder in evaluations:
        check_there(folder, "Give a folder that `palmette eval squad` wrote.", file=METRICS)
    from palmette.publish.push import PushSettings, push_run

    settings = PushSettings(
        merged=merged,
        dtype=dtype,
        evaluations=evaluations,
        licence=licence,
        data_licences=data_licence or (),
        base_model=base_model,
        private=private,
        update=update,
    )
    push_run(run, to, settings, stderr().print, dry_run=dry_run)
