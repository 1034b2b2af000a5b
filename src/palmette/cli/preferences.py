"""`palmette synth preferences`: a model's own answers, ranked by rewards; or answers that people judged."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from palmette.synth.preference_job import write_preferences

_REWARD, _NO_REWARD = "f1=1,valid_json=0.2", "none"
OutOption = Annotated[
    Path, typer.Option(help="The .jsonl to write, which must not exist; a job that was stopped goes on.")
]
ModelOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="Whose answers: a run folder, a model folder, a GGUF file, or a hub id. With --verdicts, only a run's prompt is used."
    ),
]
RewardOption = Annotated[
    str,
    typer.Option(
        help="Weights of abstention, exact, f1, valid_json, such as exact=1,valid_json=0.2; none: the reward model alone."
    ),
]
RewardModelOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="A finished run of `palmette train reward`, whose score of each answer is added."),
]
VerdictsOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        help="A .jsonl of answers with a label, true (good) or false: good ones are preferred to bad ones. Nothing is sampled."
    ),
]
TemperatureOption = Annotated[
    Optional[list[float]],  # noqa: UP045
    typer.Option(min=0.0, help="A temperature to draw at; may be given again. [default: 0.7, 1.0, 1.3]"),
]
TopPOption = Annotated[float, typer.Option(min=0.001, max=1.0, help="Draw from the likeliest tokens that reach it.")]
FormOption = Annotated[
    Literal["pairs", "ranked"], typer.Option(help="The best and the worst answer, or one at each reward, 9 at most.")
]
MarginOption = Annotated[
    float,
    typer.Option(
        min=0.0, help="Answers whose rewards differ by less are not compared; what that leaves out is counted."
    ),
]
AttentionOption = Annotated[
    Optional[Literal["auto", "flex", "sdpa", "eager"]],  # noqa: UP045
    typer.Option(help="Attention backend; the run's own, or auto, if left out."),
]


def synth_preferences(
    data: Annotated[str, typer.Argument(help="builtin:train, a SQuAD v2 .json, a .jsonl, or a hub data set.")],
    out: OutOption,
    model: ModelOption = None,
    reward: RewardOption = _REWARD,
    reward_model: RewardModelOption = None,
    reward_model_weight: Annotated[float, typer.Option(min=0.0, help="How much that score counts.")] = 1.0,
    verdicts: VerdictsOption = None,
    temperature: TemperatureOption = None,
    top_p: TopPOption = 1.0,
    samples: Annotated[int, typer.Option(min=1, help="Answers of each question at each temperature.")] = 4,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longer answers are cut, and not compared.")] = 48,
    form: FormOption = "pairs",
    min_margin: MarginOption = 0.0,
    limit: Annotated[Optional[int], typer.Option(min=1, help="Use the first N documents only.")] = None,  # noqa: UP045
    tokens_per_batch: Annotated[int, typer.Option(min=64, help="Tokens held at once.")] = 8192,
    attention: AttentionOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all draws.")] = 0,
) -> None:
    """Draw several answers to each question from one model and rank them by rewards, or take answers that people judged; write preferences."""
    from palmette.cli.console import stdout
    from palmette.config import read_section
    from palmette.synth.preference_settings import PreferenceSettings
    from palmette.tasks.rewards import parse_weights

    settings = {
        "data": data,
        "model": model,
        "reward": {} if reward.strip() == _NO_REWARD else parse_weights(reward),
        "reward_model": reward_model,
        "reward_model_weight": reward_model_weight,
        "verdicts": verdicts,
        **({"temperatures": temperature} if temperature else {}),
        "top_p": top_p,
        "samples": samples,
        "max_new_tokens": max_new_tokens,
        "form": form,
        "min_margin": min_margin,
        "limit": limit,
        "tokens_per_batch": tokens_per_batch,
        "attention": attention,
        "seed": seed,
    }
    write_preferences(read_section(PreferenceSettings, settings, "synth preferences"), out, stdout().print)
