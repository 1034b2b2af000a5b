"""`palmette train STAGE`, a command for each row of the table of stages, and `palmette report`."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from palmette.cli.lazy import Command
from palmette.cli.options import PATH
from palmette.train.stages import STAGES, Stage, check_output, read_recipe

RecipeArgument = Annotated[
    Path | None, typer.Argument(help="The recipe, a YAML file.", **{**PATH, "metavar": "RECIPE"})
]
ResumeOption = Annotated[
    Path | None, typer.Option(help="Continue this run folder, which was stopped, instead.", **PATH)
]


def stage_commands() -> dict[str, Command]:
    """The commands of the group `palmette train`: one for each stage, and the former name of `palmette chain`."""
    stages = {
        name: Command("train.stages:stage_command", stage.help, arguments=(name,)) for name, stage in STAGES.items()
    }
    return {
        **stages,
        "rlhf": Command("train.studies:chain", "Run training stages that build on one another.", hidden=True),
    }


def stage_command(name: str) -> Callable[..., None]:
    """The command `palmette train NAME`, made from its row of the table of stages."""
    stage = STAGES[name]

    def command(recipe: RecipeArgument = None, resume: ResumeOption = None) -> None:
        if (recipe is None) == (resume is None):
            raise typer.BadParameter("give either a recipe or --resume RUN")
        _run_stage(stage, recipe, resume)

    command.__name__, command.__doc__ = f"train_{name}", stage.help
    return command


def report(
    run: Annotated[
        Path, typer.Argument(help="A run folder of `palmette train`, finished or not.", **{**PATH, "metavar": "RUN"})
    ],
) -> None:
    """Write the page of a training run again.

    The page, training.html, has figures, warnings, curves and samples over time. Every training command writes it at
    its end. This command shows a run that is still going on, or was stopped.
    """
    from palmette.cli.console import stderr
    from palmette.inference.names import check_run_folder

    check_run_folder(run)
    from palmette.pages.training.pictures import leave_page

    leave_page(run, stderr().print)


def _run_stage(stage: Stage, recipe: Path | None, resumed: Path | None) -> None:
    """Run or resume a stage, draw its run, and say what to try next."""
    from palmette import processes
    from palmette.cli.console import invoked_as, stderr
    from palmette.config.recipes import load_run_recipe
    from palmette.data.source import check_source
    from palmette.inference.names import check_run_folder
    from palmette.run import RECIPE
    from palmette.startup import quick_imports

    settings = None if recipe is None else read_recipe(recipe, stage.name)
    if resumed is not None:
        check_run_folder(resumed)
    if settings is not None and processes.is_main():  # another process may find what the main one has made
        check_output(settings)
    for source in settings.data.train if settings is not None and settings.data.kind == "qa" else ():
        check_source(source)
    with quick_imports(freeze=True):
        from palmette.pages.training.pictures import draw_run
        from palmette.train.run import resume, train
        from palmette.train.steps.callbacks import TrainingInterrupted

    news = stderr()
    if not processes.is_main():
        news.quiet = True
    try:
        if resumed is not None:
            finished = resume(resumed, news.print, stage=stage.name)
        else:
            assert settings is not None
            finished = train(settings, news.print)
    except TrainingInterrupted as stop:
        news.print(str(stop))
        raise typer.Exit(stop.exit_code) from stop
    if not processes.is_main():
        return
    news.print(f"done: {finished.folder}")
    draw_run(finished.folder, news.print)
    chats = load_run_recipe(finished.folder / RECIPE).data.kind == "chat"
    next_step = "chat --model {}" if chats else stage.next_step
    news.print(f"try it: {invoked_as()} {next_step.format(shlex.quote(str(finished.folder)))}")
