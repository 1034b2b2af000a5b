"""`palmette synth`: training data from a teacher, by rule, from a model's own answers, or from verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from palmette.cli.endpoint import CacheOption, open_client, read_endpoint, reporting_usage
from palmette.cli.make.writers import read_licences
from palmette.cli.options import (
    DATA,
    MODEL,
    PATH,
    QUESTIONS,
    AttentionOption,
    LimitOption,
    SeedOption,
    TokensPerBatchOption,
    expanded,
)
from palmette.endpoint.settings import Endpoint
from palmette.synth.licences import Licences

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.data.records import DataSet
    from palmette.synth.leaks import ClearData
    from palmette.synth.rationales import Rationales

_NO_REWARD = "none"

SourceArgument = Annotated[
    str,
    typer.Argument(help="The questions: builtin:train, a SQuAD v2 .json, a .jsonl, or a hub data set.", **QUESTIONS),
]
RationalesOption = Annotated[
    Path, typer.Option("--out", help="The .jsonl, or SQuAD v2 .json, to write. It must not exist.", **PATH)
]
KeepAllOption = Annotated[
    bool, typer.Option("--keep-all", help="Keep questions whose rationale was dropped, without a rationale.")
]
RationaleWordsOption = Annotated[int, typer.Option("--max-words", min=1, help="Longest rationale, in words.")]
ClearOption = Annotated[
    list[str] | None,
    typer.Option(
        "--against", help="An evaluation set. Documents that hold a part of it are dropped. May be repeated.", **DATA
    ),
]
AnsweringModelOption = Annotated[
    str | None,
    typer.Option(
        help="The model that answers: a run folder, a model folder, a GGUF file, or a hub id. "
        "With --verdicts, only the prompt of a run is used.",
        **MODEL,
    ),
]
RewardOption = Annotated[
    str,
    typer.Option(
        metavar="WEIGHTS",
        help="Weights of abstention, exact, f1 and valid_json, such as exact=1,valid_json=0.2. "
        "With none, only the reward model counts.",
    ),
]
RewardModelOption = Annotated[
    str | None,
    typer.Option(help="A finished run of `palmette train reward`, whose score of each answer is added.", **MODEL),
]
VerdictsOption = Annotated[
    str | None,
    typer.Option(
        help="A .jsonl of answers with a label, true (good) or false (bad). Good answers are preferred to bad ones, "
        "and nothing is sampled.",
        **{**DATA, "metavar": "FILE"},
    ),
]
TemperatureOption = Annotated[
    list[float] | None,
    typer.Option(min=0.0, help="A sampling temperature. May be repeated. [default: 0.7, 1.0, 1.3]"),
]
TopPOption = Annotated[
    float, typer.Option(min=0.001, max=1.0, help="Sample from the likeliest tokens with this total probability.")
]
NewTokensOption = Annotated[
    int, typer.Option(min=1, help="Longest answer, in tokens. Longer answers are cut, and not compared.")
]
FormOption = Annotated[
    Literal["pairs", "ranked"],
    typer.Option(help="Compare the best and the worst answer, or one answer at each reward, up to 9."),
]
MarginOption = Annotated[
    float, typer.Option(min=0.0, help="Smallest difference of rewards at which two answers are compared.")
]


@expanded("endpoint", read_endpoint, max_new_tokens=512)
@expanded("licences", read_licences)
def synth_rationales(
    *,
    data: SourceArgument,
    out: RationalesOption,
    endpoint: Endpoint,
    keep_all: KeepAllOption = False,
    max_words: RationaleWordsOption = 120,
    against: ClearOption = None,
    licences: Licences,
    limit: LimitOption = None,
    cache: CacheOption = None,
) -> None:
    """Ask a teacher that knows the answers for the reasoning.

    Refusals and contradictions are dropped and counted.
    """
    from palmette.cli.console import stderr
    from palmette.synth.effort import estimate, say_estimate
    from palmette.synth.rationale_file import read_questions
    from palmette.synth.rationales import make_rationales, prompt_sha256, teacher_turns
    from palmette.synth.writers import EndpointWriter

    source = read_questions(data, out, limit, against or ())
    known = licences.record([source.data.describe()], None)
    client = open_client(endpoint, cache, out)
    say_estimate(estimate(teacher_turns(source.data.documents), EndpointWriter(client)), stderr().print)
    with reporting_usage(client):
        done = make_rationales(client, source.data.documents, max_words=max_words)
    made_by = {**client.about(), "prompt_sha256": prompt_sha256()}
    _write(done, source, out, made_by, keep_all, max_words, known)


@expanded("licences", read_licences, without=("licence",))
def synth_quotes(
    data: SourceArgument,
    *,
    out: RationalesOption,
    keep_all: KeepAllOption = False,
    max_words: RationaleWordsOption = 120,
    against: ClearOption = None,
    licences: Licences,
    limit: LimitOption = None,
) -> None:
    """Write the reasoning by rule, without a teacher.

    It is the sentence that decides the question, and whether that sentence answers it.
    """
    from palmette.synth.quotes import ANSWERED, UNANSWERED, quote_rationales
    from palmette.synth.rationale_file import read_questions

    source = read_questions(data, out, limit, against or ())
    known = licences.of_sources([source.data.describe()])
    done = quote_rationales(source.data.documents, max_words=max_words)
    _write(done, source, out, {"teacher": "quotes", "words": [ANSWERED, UNANSWERED]}, keep_all, max_words, known)


@expanded("licences", read_licences)
def synth_preferences(
    data: SourceArgument,
    *,
    out: Annotated[
        Path, typer.Option(help="The .jsonl to write. It must not exist. A job that was stopped continues.", **PATH)
    ],
    model: AnsweringModelOption = None,
    reward: RewardOption = "f1=1,valid_json=0.2",
    reward_model: RewardModelOption = None,
    reward_model_weight: Annotated[float, typer.Option(min=0.0, help="Weight of the reward model's score.")] = 1.0,
    verdicts: VerdictsOption = None,
    temperature: TemperatureOption = None,
    top_p: TopPOption = 1.0,
    samples: Annotated[int, typer.Option(min=1, help="Answers to each question at each temperature.")] = 4,
    max_new_tokens: NewTokensOption = 48,
    form: FormOption = "pairs",
    min_margin: MarginOption = 0.0,
    against: ClearOption = None,
    licences: Licences,
    limit: LimitOption = None,
    tokens_per_batch: TokensPerBatchOption = 8192,
    attention: AttentionOption = None,
    seed: SeedOption = 0,
) -> None:
    """Make preferences from a model's own answers, or from verdicts.

    Several answers to each question are sampled and ranked by rewards, or people have judged them.
    """
    from palmette.cli.console import stdout
    from palmette.config.recipes import read_section
    from palmette.synth.preference_job import write_preferences
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
        "against": against or [],
        "limit_documents": limit,
        "tokens_per_batch": tokens_per_batch,
        "attention": attention,
        "seed": seed,
    }
    read = read_section(PreferenceSettings, settings, "synth preferences")
    write_preferences(read, out, stdout().print, licences=licences)


def _write(
    done: Rationales,
    source: ClearData,
    out: Path,
    teacher: dict[str, Any],
    keep_all: bool,
    max_words: int,
    licences: dict[str, Any],
) -> None:
    """Write the data with their rationales, and say what was dropped."""
    from palmette.cli.console import stderr, stdout
    from palmette.synth.licences import say_unknown
    from palmette.synth.rationale_file import report_of, write_rationales
    from palmette.synth.showing import page_of

    stdout().print(_table(done, source.data))
    count = write_rationales(done, source, out, teacher, keep_all=keep_all, max_words=max_words, licences=licences)
    say_unknown(licences, stderr().print)
    stderr().print(
        f"{count} questions in {out}. What was dropped, and why, is in {report_of(out)} and on the page {page_of(out)}."
    )


def _table(done: Rationales, source: DataSet) -> Any:
    from palmette.cli.console import plain_table
    from palmette.numbers import fixed
    from palmette.synth.rationales import REASONS

    table = plain_table("rationales", "number", "percent")
    table.add_column("why")
    total = source.num_questions
    table.add_row("kept", str(done.num_kept), fixed(100 * done.num_kept / total), "")
    for reason, count in done.counts.items():
        table.add_row(f"dropped: {reason}", str(count), fixed(100 * count / total), REASONS[reason])
    return table
