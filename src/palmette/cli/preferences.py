"""`palmette synth preferences`: a model's own answers, ranked by a verifiable reward."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional

import typer

from palmette.errors import DataError

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.data.records import DataSet
    from palmette.model.attention import AttentionChoice
    from palmette.synth.preferences import PreferenceMaker, Preferences

WORK = ".work"
AttentionOption = Annotated[
    Optional[Literal["auto", "flex", "sdpa", "eager"]],  # noqa: UP045
    typer.Option(help="Attention backend; the run's own, or auto, if left out."),
]
_TEMPERATURES = [0.7, 1.0, 1.3]
_REWARD = "f1=1,valid_json=0.2"


def synth_preferences(
    data: Annotated[str, typer.Argument(help="builtin:train, a SQuAD v2 .json, a .jsonl, or a hub data set.")],
    out: Annotated[
        Path, typer.Option(help="The .jsonl to write, which must not exist; a job that was stopped goes on.")
    ],
    model: Annotated[str, typer.Option(help="Whose answers: a run folder, a model folder, a GGUF file, or a hub id.")],
    reward: Annotated[
        str, typer.Option(help="Weights of abstention, exact, f1, valid_json, such as exact=1,valid_json=0.2.")
    ] = _REWARD,
    temperature: Annotated[
        Optional[list[float]],  # noqa: UP045
        typer.Option(min=0.0, help="A temperature to draw at; may be given again. [default: 0.7, 1.0, 1.3]"),
    ] = None,
    top_p: Annotated[
        float, typer.Option(min=0.001, max=1.0, help="Draw from the likeliest tokens that reach it.")
    ] = 1.0,
    samples: Annotated[int, typer.Option(min=1, help="Answers of each question at each temperature.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longer answers are cut, and not compared.")] = 48,
    form: Annotated[
        Literal["pairs", "ranked"], typer.Option(help="The best and the worst answer, or one at each reward.")
    ] = "pairs",
    limit: Annotated[Optional[int], typer.Option(min=1, help="Use the first N documents only.")] = None,  # noqa: UP045
    tokens_per_batch: Annotated[int, typer.Option(min=64, help="Tokens held at once.")] = 8192,
    attention: AttentionOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
) -> None:
    """Draw several answers to each question from one model, rank them by a verifiable reward, and write preferences."""
    from palmette import run
    from palmette.data.source import read_source
    from palmette.decode.rollouts import Sampling
    from palmette.tasks.rewards import parse_weights

    out = out.expanduser()
    if out.suffix != ".jsonl":
        raise DataError(f"{out} does not end in .jsonl", "Name a file that can be read back.")
    run.check_absent(out)
    weights = parse_weights(reward)
    samplings = tuple(
        Sampling(value, top_p, max_new_tokens, seed=seed + index)
        for index, value in enumerate(temperature or _TEMPERATURES)
    )
    source = read_source(data, limit_documents=limit)
    maker, about = _maker(model, attention, weights, samplings, samples, form, tokens_per_batch)
    _write(maker, about, source, out)


def _maker(
    model: str,
    attention: AttentionChoice | None,
    weights: dict[str, float],
    samplings: Any,
    num_samples: int,
    form: Literal["pairs", "ranked"],
    tokens_per_batch: int,
) -> tuple[PreferenceMaker, dict[str, Any]]:
    """How preferences are made, and what names the model."""
    from palmette.cli.opening import open_model
    from palmette.decode.reasoning import end_tokens
    from palmette.decode.sampler import Sampler
    from palmette.model.loading import weights_hash
    from palmette.synth.preferences import PreferenceMaker
    from palmette.tasks.rewards import QaReward

    opened = open_model(model, attention, calibrated=False)
    loaded, task = opened.loaded, opened.task
    ends = end_tokens(loaded.model, task)
    sampler = Sampler(loaded.model, loaded.tokenizer, end_tokens=ends, tokens_per_batch=tokens_per_batch)
    maker = PreferenceMaker(sampler, task, QaReward(task.prompt, weights), samplings, num_samples, form)
    about = {
        "model": model,
        "weights_sha256": weights_hash(loaded.folder),
        "adapter_sha256": opened.weights,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
    }
    return maker, about


def _write(maker: PreferenceMaker, about: dict[str, Any], source: DataSet, out: Path) -> None:
    """The preferences, and a report beside them."""
    from palmette import run
    from palmette.cli.show import stderr
    from palmette.synth.preferences import REASONS, make_preferences

    out.parent.mkdir(parents=True, exist_ok=True)
    work, report = out.with_name(out.name + WORK), out.with_name(out.name + ".report.json")
    about |= {"data": {"source": source.source, "sha256": source.sha256, "questions": source.num_questions}}
    done = make_preferences(maker, source.documents, work, about)
    run.write_json(
        report,
        {
            **run.environment(),
            **about,
            **maker.settings(),
            "kept": len(done.rows),
            "left_out": done.counts,
            "reasons": {reason: REASONS[reason] for reason in done.counts},
            "mean_reward": done.mean_reward,
        },
    )
    _tell(done, source)
    if not done.rows:
        raise DataError(
            "no question has answers of different rewards", f"See {report}; draw more, at a higher temperature."
        )
    run.write_text(out, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in done.rows))
    work.unlink()
    stderr().print(f"{len(done.rows)} records in {out}; how they were made, in {report}")


def _tell(done: Preferences, source: DataSet) -> None:
    from palmette.cli.show import stdout
    from palmette.synth.preferences import REASONS

    console = stdout()
    reward = "" if done.mean_reward is None else f"; the mean reward of all answers is {done.mean_reward:.3f}"
    console.print(f"preferences for {len(done.rows)} of {source.num_questions} questions{reward}")
    for reason, count in done.counts.items():
        console.print(f"  left out: {count} {reason} ({REASONS[reason]})")
