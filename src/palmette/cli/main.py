"""The `palmette` command. Commands import what they need when they run, so that `--help` is quick and needs no torch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from palmette import __version__
from palmette.cli.baseline import baseline_app
from palmette.cli.divergence import eval_divergence
from palmette.cli.endpoint import eval_endpoint
from palmette.cli.report import report
from palmette.cli.studies import chain, sweep
from palmette.cli.synth import synth_app
from palmette.cli.train import eval_reward, stage_command
from palmette.errors import PalmetteError
from palmette.train.stages import STAGES

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Exact answers from small language models: copied word for word from a document, or an honest refusal.",
)
train_app = typer.Typer(no_args_is_help=True, help="Train a model.")
eval_app = typer.Typer(no_args_is_help=True, help="Measure a model.")
app.add_typer(train_app, name="train")
app.add_typer(eval_app, name="eval")
app.add_typer(baseline_app, name="baseline")
app.add_typer(synth_app, name="synth")
eval_app.command("endpoint")(eval_endpoint)
for stage in STAGES:
    train_app.command(stage)(stage_command(stage))
eval_app.command("reward")(eval_reward)
app.command("report")(report)
app.command("sweep")(sweep)
app.command("chain")(chain)
train_app.command("rlhf", hidden=True)(chain)
eval_app.command("divergence")(eval_divergence)

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
ModelOption = Annotated[str, typer.Option(help="A run folder, a model folder, a GGUF file, or a hub id.")]
AttentionOption = Annotated[
    Optional[Literal["auto", "flex", "sdpa", "eager"]],  # noqa: UP045
    typer.Option(help="Attention backend; the run's own, or auto: flex on a GPU, else sdpa. Gemma 2 needs eager."),
]
DecoderOption = Annotated[
    Literal["span", "greedy", "beam"], typer.Option(help="The span decoder, or plain generation (beam: 10 beams).")
]
CalibrationOption = Annotated[
    bool, typer.Option("--calibration/--no-calibration", help="Decide as the run's calibration says, if it has one.")
]
ReasoningLimitOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        min=1, help="Let the model reason freely for up to N tokens, then open its answer; else as it was trained."
    ),
]
MaxWordsOption = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(min=1, help="The longest answer, in words and punctuation marks; 30, or as calibrated."),
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"palmette {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Exact answers from small language models: copied word for word from a document, or an honest refusal."""


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="The run folder, which must not exist.")] = Path("runs/quickstart"),
    smoke: Annotated[
        bool, typer.Option("--smoke", help="A few documents only: shows that everything works, not how well.")
    ] = False,
) -> None:
    """Run the main job on the built-in model and corpus: evaluate, fine-tune, evaluate again, compare."""
    from palmette.cli.quickstart import run_quickstart

    run_quickstart(out, smoke=smoke)


@app.command()
def merge(
    run: Annotated[Path, typer.Argument(help="A finished run folder with an adapter.")],
    out: Annotated[Path, typer.Option(help="Folder for the plain model, which must not exist.")],
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"],
        typer.Option(help="Of the weights written; auto: the run's own. Merging itself takes 4 bytes a parameter."),
    ] = "auto",
) -> None:
    """Add a run's adapter into its model's weights: a plain model folder, as transformers loads it."""
    from palmette.cli.publish import run_merge

    run_merge(run.expanduser(), out.expanduser(), dtype)


@app.command()
def push(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    to: Annotated[str, typer.Option(help="The repository on the Hugging Face hub, as USER/NAME.")],
    merged: Annotated[bool, typer.Option("--merged", help="The merged model instead of the adapter.")] = False,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], typer.Option(help="Of a merged model; auto: the run's own.")
    ] = "auto",
    evaluation: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="Folder that `palmette eval squad` wrote for this run: figures for the card. Repeatable."),
    ] = None,
    licence: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Licence of what is published, such as apache-2.0; the base model's own, if that is known."),
    ] = None,
    data_licence: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="Licence of the training data: LICENCE for all, or SOURCE=LICENCE. Repeatable."),
    ] = None,
    base_model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Hub id of the base model, where the run names a folder or file of this machine."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Let nobody else see it.")] = False,
    update: Annotated[bool, typer.Option("--update", help="Add to a repository that exists already.")] = False,
    dry_run: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Upload nothing; write what would be uploaded into this folder, which must not exist."),
    ] = None,
) -> None:
    """Upload a run to the Hugging Face hub, with a model card made from it: data, recipe, figures, use, limits, licence."""
    from palmette.cli.publish import run_push

    run_push(
        run.expanduser(),
        to,
        merged=merged,
        dtype=dtype,
        evaluations=evaluation or [],
        licence=licence,
        data_licences=data_licence or [],
        base_model=base_model,
        private=private,
        update=update,
        dry_run=dry_run,
    )


@eval_app.command("squad")
def eval_squad(
    data: Annotated[str, typer.Option(help="builtin:test, a SQuAD v2 .json, a .jsonl, or a hub data set.")],
    out: Annotated[Path, typer.Option(help="Folder for the results, which must not exist.")],
    model: ModelOption = DEFAULT_MODEL,
    attention: AttentionOption = None,
    decoder: DecoderOption = "span",
    calibration: CalibrationOption = True,
    max_words: MaxWordsOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts that beam search takes side by side.")] = 16,
    loose: Annotated[
        bool,
        typer.Option("--loose", help="Plain generation: read an answer out of broken JSON too (it stays not valid)."),
    ] = False,
    limit: Annotated[Optional[int], typer.Option(min=1, help="Use the first N documents only.")] = None,  # noqa: UP045
    reasoning_limit: ReasoningLimitOption = None,
) -> None:
    """Answer a data set; write predictions.json, na_prob.json, metrics.json, answers.jsonl and report.html."""
    from palmette.cli.eval import run_eval_squad

    run_eval_squad(
        model,
        data,
        out,
        attention,
        decoder=decoder,
        calibrated=calibration,
        max_words=max_words,
        batch_size=batch_size,
        loose=loose,
        limit=limit,
        reasoning_limit=reasoning_limit,
    )


@eval_app.command("predictions")
def eval_predictions(
    predictions: Annotated[Path, typer.Argument(help="predictions.json: {question id: text}, empty for no answer.")],
    data: Annotated[str, typer.Option(help="builtin:test, a SQuAD v2 .json, a .jsonl, or a hub data set.")],
    out: Annotated[Path, typer.Option(help="Folder for the results, which must not exist.")],
    na_prob: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="na_prob.json: {question id: probability of no answer}."),
    ] = None,
) -> None:
    """Score prediction files of the official SQuAD v2 format, whoever made them."""
    from palmette.cli.eval import run_eval_predictions

    run_eval_predictions(data, predictions, na_prob, out)


@eval_app.command("retention")
def eval_retention(
    model: Annotated[str, typer.Option(help="A run folder; or any tuned model, with --base.")],
    base: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="The untouched model; the one that the run started from."),
    ] = None,
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="Folder for retention.json and a plot, which must not exist."),
    ] = None,
    attention: AttentionOption = None,
    dtype: Annotated[
        Optional[Literal["auto", "float32", "bfloat16"]],  # noqa: UP045
        typer.Option(help="Of both models; the run's own, or auto."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Where a chat completion is cut.")] = 48,
) -> None:
    """Measure what fine-tuning cost elsewhere: perplexity on general text, KL divergence on chat prompts."""
    from palmette.cli.retention import run_eval_retention
    from palmette.evaluate.retention.measure import Settings

    run_eval_retention(model, base, out, attention, dtype, Settings(max_new_tokens=max_new_tokens))


@app.command("compare-runs")
def compare_runs(
    first: Annotated[Path, typer.Argument(help="A: a folder that `palmette eval` or the quickstart wrote.")],
    second: Annotated[Path, typer.Argument(help="B: another, on the same data.")],
    show: Annotated[int, typer.Option(min=0, help="How many changed questions to show, each way.")] = 5,
) -> None:
    """Compare two evaluations: differences with intervals, and the questions that changed, both ways."""
    from palmette.cli.eval import run_compare

    run_compare(first, second, show)


@app.command()
def calibrate(
    model: Annotated[Path, typer.Option(help="A run folder.")],
    data: Annotated[str, typer.Option(help="Questions with known answers, on which no figure is reported later.")],
    target_error: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Promise that at most this share of the answers given is wrong (0.05, say)."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Of the promise.")] = 0.95,
    max_words: MaxWordsOption = None,
    attention: AttentionOption = None,
) -> None:
    """Fit temperature and thresholds of the span decoder, and keep them beside the run's weights."""
    from palmette.cli.eval import run_calibrate

    run_calibrate(model.expanduser(), data, attention, max_words, target_error, confidence)


@app.command()
def ask(
    questions: Annotated[list[str], typer.Argument(help="One or more questions.")],
    document: Annotated[str, typer.Option(help="A text file, or - for standard input.")],
    model: ModelOption = DEFAULT_MODEL,
    attention: AttentionOption = None,
    decoder: DecoderOption = "span",
    calibration: CalibrationOption = True,
    max_words: MaxWordsOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a question, for programs.")] = False,
) -> None:
    """Answer questions about a document, with the answer shown in its place."""
    from palmette.cli.ask import run_ask

    settings = {"calibrated": calibration, "as_json": as_json}
    run_ask(model, document, questions, attention, decoder=decoder, max_words=max_words, **settings)


@app.command()
def predict(
    source: Annotated[str, typer.Argument(help="JSON Lines with context and question, or - for standard input.")],
    out: Annotated[Path, typer.Argument(help="JSON Lines to write; a job that was stopped goes on.")],
    model: ModelOption = DEFAULT_MODEL,
    attention: AttentionOption = None,
    calibration: CalibrationOption = True,
    max_words: MaxWordsOption = None,
) -> None:
    """Answer a file of questions line by line; a bad line becomes an error line, a kill costs nothing."""
    from palmette.cli.predict import run_predict

    run_predict(model, source, out, attention, max_words=max_words, calibrated=calibration)


@app.command()
def prompts(
    name: Annotated[Optional[str], typer.Argument(help="Show this one in full.")] = None,  # noqa: UP045
) -> None:
    """List the prompts that a recipe can name."""
    from palmette.cli.ask import run_prompts

    run_prompts(name)


@app.command()
def inspect(
    data: Annotated[
        Optional[str], typer.Option(help="Where the document is from; the run's own data, or builtin:train.")  # noqa: UP045
    ] = None,
    model: ModelOption = DEFAULT_MODEL,
    document: Annotated[int, typer.Option(min=0, help="Which document or conversation, counted from 0.")] = 0,
    questions: Annotated[
        int, typer.Option(min=1, help="How many of its questions, or of the conversations that open like it.")
    ] = 3,
    table: Annotated[
        bool, typer.Option("--table", help="One line a token: position, branch, predictor, masks.")
    ] = False,
) -> None:
    """Show a packed training example as the loss sees it: every token coloured by its learn and attend masks."""
    from palmette.cli.inspect import run_inspect

    run_inspect(model, data, document, questions, table=table)


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit code 2."""
    # How often libgomp looks before a waiting thread sleeps; by default about a hundred times as often, and where another program wants
    # the processor, threads that look keep those from running that they wait for: a step then takes four times as long instead of two.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    try:
        app()
    except PalmetteError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
