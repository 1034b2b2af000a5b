"""`palmette eval` and `palmette calibrate`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from palmette.cli.options import (
    DATA,
    DEFAULT_MODEL,
    MODEL,
    PATH,
    QUESTIONS,
    Answering,
    AttentionOption,
    DataOption,
    InsideWordsOption,
    LimitOption,
    LimitQuestionsOption,
    LooseOption,
    MaxWordsOption,
    ModelOption,
    OutOption,
    SeedOption,
    TokensPerBatchOption,
    expanded,
    read_answering,
)

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.cli.tables import TextTable
    from palmette.evaluate.retention.scores import Retention
    from palmette.evaluate.reward_metrics import RewardMetrics
    from palmette.evaluate.squad import Evaluation

# Label and factor of each figure of `eval divergence` in the terminal.
_DIVERGENCE = {
    "completion_kl": ("KL divergence from the reference, nats per completion", 1.0),
    "completion_kl_k3": ("  the same by the estimate k3", 1.0),
    "token_kl": ("KL divergence, nats per token", 1.0),
    "token_kl_k3": ("  the same by the estimate k3", 1.0),
    "entropy": ("entropy, nats per token", 1.0),
    "completion_tokens": ("tokens per completion", 1.0),
    "ended": ("ended before the limit (%)", 100.0),
    "reward": ("weighted reward", 1.0),
    "sampled_exact": ("exact match (%)", 100.0),
    "sampled_f1": ("F1 (%)", 100.0),
    "sampled_valid_json": ("valid JSON (%)", 100.0),
    "sampled_abstention": ("abstained exactly where it should (%)", 100.0),
    "sampled_abstained": ("abstained (%)", 100.0),
}


@expanded("answering", read_answering)
def eval_squad(
    *,
    data: DataOption,
    out: OutOption,
    model: ModelOption = DEFAULT_MODEL,
    answering: Answering,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts that beam search takes at the same time.")] = 16,
    loose: LooseOption = False,
    limit: LimitOption = None,
    limit_questions: LimitQuestionsOption = None,
    reasoning_limit: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Let the model reason freely for up to N tokens before it answers. By default it answers as it was "
            "trained.",
        ),
    ] = None,
) -> None:
    """Answer a data set with a model, and write metrics and a report.

    The folder gets predictions.json, na_prob.json, metrics.json, answers.jsonl and report.html.
    """
    from palmette.cli.console import stderr
    from palmette.inference.names import resolve_answerer
    from palmette.run import check_absent
    from palmette.startup import quick_imports

    check_absent(out)
    resolve_answerer(model)
    with quick_imports(freeze=True):
        from palmette.studies.answering import AnswerSettings, evaluate_model

    settings = AnswerSettings(
        **answering.loading,
        decoder=answering.decoder,
        max_words=answering.max_words,
        inside_words=answering.inside_words,
        batch_size=batch_size,
        loose=loose,
        limit_documents=limit,
        limit_questions=limit_questions,
        reasoning_limit=reasoning_limit,
    )
    result, calibrated_on = evaluate_model(model, data, out, settings, stderr().print)
    _print_evaluation(result, Path(model).name, out)
    if answering.decoder == "span":
        fitted = f"calibrated on {calibrated_on}" if calibrated_on else "not calibrated: the most probable answer wins"
        stderr().print(fitted)


def eval_predictions(
    predictions: Annotated[
        Path,
        typer.Argument(
            help="predictions.json: {question id: text}, empty for no answer.", **{**PATH, "metavar": "PREDICTIONS"}
        ),
    ],
    data: DataOption,
    out: OutOption,
    na_prob: Annotated[
        Path | None, typer.Option(help="na_prob.json: {question id: probability of no answer}.", **PATH)
    ] = None,
) -> None:
    """Score prediction files of the official SQuAD v2 format.

    Any program may have made them.
    """
    from palmette.studies.answering import evaluate_predictions

    _print_evaluation(evaluate_predictions(predictions, na_prob, data, out), predictions.name, out)


def eval_retention(
    model: Annotated[str, typer.Option(help="A run folder. With --base, any fine-tuned model.", **MODEL)],
    base: Annotated[
        str | None, typer.Option(help="The untouched model. By default the one that the run started from.", **MODEL)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for retention.json and a plot. It must not exist.", **PATH)
    ] = None,
    attention: AttentionOption = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"] | None,
        typer.Option(help="Data type of both models. By default that of the run, or auto."),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest completion of a chat prompt, in tokens.")] = 48,
) -> None:
    """Measure what fine-tuning cost on general text and chats.

    It prints the perplexity of general text and the KL divergence on chat prompts, before and after.
    """
    from palmette import run
    from palmette.cli.console import stderr, stdout
    from palmette.inference.names import resolve_model
    from palmette.startup import quick_imports

    if out is not None:
        run.check_absent(out)
    resolve_model(model)
    with quick_imports(freeze=True):
        from palmette.evaluate.retention.measure import Settings
        from palmette.evaluate.retention.run import retention_of_model
        from palmette.pages.retention import write_retention
    settings = Settings(max_new_tokens=max_new_tokens)
    result, record = retention_of_model(model, settings, base=base, attention=attention, dtype=dtype)
    stdout().print(_retention_table(result))
    found = result.summary()
    stderr().print(
        f"{found['passages_worse']} of {found['passages']} passages ({found['text_tokens']} tokens) became less "
        f"likely. The KL divergence is over {found['completion_tokens']} tokens of {found['completions']} completions "
        "of the untouched model."
    )
    if out is not None:
        write_retention(result, record, out, f"Retention of {Path(model).name}")
        stderr().print(f"written: {out}")


def eval_reward(
    model: Annotated[Path, typer.Option(help="A finished run of `palmette train reward`.", **PATH)],
    data: Annotated[
        str,
        typer.Option(
            help="Comparisons that it was not trained on: a .jsonl, a hub data set, or the folder of an arena.", **DATA
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for metrics.json and rewards.jsonl. It must not exist.", **PATH)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Use only the first N comparisons.")] = None,
    attention: AttentionOption = None,
) -> None:
    """Measure a reward model on comparisons.

    It prints the accuracy, and how far the probabilities can be believed. Of votes, each pair of answers of which
    people prefer one is a comparison.
    """
    from palmette import run
    from palmette.arena.source import open_votes
    from palmette.cli.console import stderr, stdout
    from palmette.evaluate.reward_evaluation import evaluate_reward

    if out is not None:
        run.check_absent(out)
    found = evaluate_reward(model, data, limit=limit, attention=attention, opened=open_votes(data))
    _print_reward(found.metrics)
    if found.learned:
        stdout().print("The run was trained on these comparisons, so these figures say nothing about others.")
    if out is not None:
        found.write(out)
        stderr().print(f"written: {out}")


def eval_divergence(
    model: Annotated[
        str, typer.Option(help="The policy: a run folder, a model folder, a GGUF file, or a hub id.", **MODEL)
    ],
    reference: Annotated[
        str, typer.Option(help="The model to compare it with, such as the run that it started from.", **MODEL)
    ],
    data: DataOption,
    out: Annotated[
        Path | None, typer.Option(help="Folder for divergence.json and completions.jsonl. It must not exist.", **PATH)
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Completions of each question, sampled at temperature 1.")] = 2,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest completion, in tokens.")] = 64,
    reward: Annotated[
        str,
        typer.Option(
            metavar="WEIGHTS", help="Weights of abstention, exact, f1 and valid_json. Each is also reported by itself."
        ),
    ] = "exact=1,valid_json=0.2",
    limit: LimitOption = None,
    tokens_per_batch: TokensPerBatchOption = 4096,
    seed: SeedOption = 0,
) -> None:
    """Measure how far a policy is from its reference model.

    The policy answers questions. It prints the KL divergence and the rewards of its completions.
    """
    from palmette import run
    from palmette.cli.console import Figure, figures_table, stderr, stdout
    from palmette.data.source import read_source
    from palmette.inference.names import resolve_model
    from palmette.startup import quick_imports

    if out is not None:
        run.check_absent(out)
    for name in (model, reference):
        resolve_model(name)
    with quick_imports(freeze=True):
        from palmette.evaluate.divergence.measure import DivergenceSettings, measure_divergence
        from palmette.evaluate.record import HELD_OUT_SPLIT
        from palmette.tasks.rewards import parse_weights
    settings = DivergenceSettings(samples, max_new_tokens, seed, tokens_per_batch, parse_weights(reward))
    source = read_source(data, default_split=HELD_OUT_SPLIT, limit_documents=limit)
    found = measure_divergence(model, reference, source, settings)
    rows = []
    for name, value in found.measures.items():
        label, scale = _DIVERGENCE.get(name, (name, 1.0))
        digits = 1 if scale > 1 or name == "completion_tokens" else 3
        rows.append(Figure(label, scale * value, _scaled(found.intervals.get(name), scale), digits))
    stdout().print(figures_table(rows, measure=f"{len(found.completions)} sampled completions"))
    if out is not None:
        found.write(out)
        stderr().print(f"written: {out}")


def calibrate(
    model: Annotated[Path, typer.Option(help="A finished run folder.", **PATH)],
    data: Annotated[
        str, typer.Option(help="Questions with known answers that no figure is reported on later.", **QUESTIONS)
    ],
    cost_wrong: Annotated[
        float | None,
        typer.Option(
            help="What a wrong answer costs, if refusing a question that has an answer costs 1. By default 2. The "
            "higher it is, the more questions are refused."
        ),
    ] = None,
    target_error: Annotated[
        float | None,
        typer.Option(help="Guarantee that at most this share of the answers is wrong, such as 0.05."),
    ] = None,
    confidence: Annotated[float, typer.Option(help="Confidence level of the guarantee.")] = 0.95,
    joined: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Also join the documents of each title into a long one, and ask up to N of its questions that have an "
            "answer, and as many that have none. Then long documents are decided well too.",
        ),
    ] = 0,
    max_words: MaxWordsOption = None,
    inside_words: InsideWordsOption = None,
    attention: AttentionOption = None,
) -> None:
    """Decide when a model answers or refuses, at a stated cost.

    The temperature and the threshold are fitted on questions with known answers, and stored beside the run's weights.
    With --target-error the share of wrong answers is guaranteed instead.
    """
    from palmette.cli.console import stderr, stdout
    from palmette.inference.names import check_run_folder

    check_run_folder(model)
    from palmette.evaluate.run_calibration import calibrate_run

    found = calibrate_run(
        model,
        data,
        attention=attention,
        max_words=max_words,
        inside_words=bool(inside_words),
        cost_wrong=cost_wrong,
        target_error=target_error,
        confidence=confidence,
        joined=joined,
        say=stderr().print,
    )
    for line in (*found.explain(), *(found.guarantee.explain() if found.guarantee else ())):
        stdout().print(line)
    stderr().print(f"fitted on {found.num_questions} questions of {data}, and stored in {model}")


def _print_evaluation(result: Evaluation, name: str, out: Path) -> None:
    from palmette.cli.console import metrics_table, stderr, stdout
    from palmette.pages.evaluation.folder import REPORT

    stdout().print(metrics_table({name: result.metrics}, result.intervals))
    took = f" in {result.seconds:.0f} s" if result.seconds else ""
    stderr().print(f"{len(result.scored)} questions{took}. Files in {out}. Open {out / REPORT}.")


def _scaled(ends: tuple[float, float] | None, scale: float) -> tuple[float, float] | None:
    return (scale * ends[0], scale * ends[1]) if ends else None


def _retention_table(result: Retention) -> TextTable:
    """Both models and the change between them."""
    from palmette.cli.console import plain_table
    from palmette.numbers import fixed

    found = result.summary()
    before, after, ratio = found["untouched"], found["tuned"], found["perplexity_ratio"]
    unchanged, bits = found["completions_unchanged"], after["bits_per_byte"] - before["bits_per_byte"]
    table = plain_table("measure", "untouched", "tuned", "change")
    perplexities = (fixed(model["perplexity"], 2) for model in (before, after))
    table.add_row("perplexity, general text", *perplexities, f"x {ratio:.3f}")
    bits_per_byte = (fixed(model["bits_per_byte"], 3) for model in (before, after))
    table.add_row("bits per byte, general text", *bits_per_byte, fixed(bits, 3, sign=True))
    table.add_row(
        "KL on chat completions (nats per token)", "0.000", fixed(found["kl"], 3), fixed(found["kl"], 3, sign=True)
    )
    table.add_row("greedy completions unchanged (%)", "100.0", fixed(unchanged), fixed(unchanged - 100.0, sign=True))
    return table


def _print_reward(found: RewardMetrics) -> None:
    from palmette.cli.console import Figure, figures_table, plain_table, stdout
    from palmette.numbers import fixed

    figures = {
        "accuracy": ("accuracy, percent", 100.0),
        "log_loss": ("log loss, nats (0.693 is chance)", 1.0),
        "margin": ("margin of rewards", 1.0),
        "calibration_error": ("calibration error, percent", 100.0),
    }
    rows = [
        Figure(
            label, scale * getattr(found, name), _scaled(found.intervals.get(name), scale), digits=1 if scale > 1 else 3
        )
        for name, (label, scale) in figures.items()
    ]
    stdout().print(figures_table(rows, measure=f"{found.comparisons} comparisons"), "")
    reliability = plain_table("how sure, percent", "on average", "right", "pairs")
    for one in found.reliability:
        values = (fixed(100 * value) for value in (one.confidence, one.accuracy))
        reliability.add_row(f"{100 * one.low:.0f} to {100 * one.high:.0f}", *values, str(one.count))
    stdout().print(reliability)
