"""What commands that ask an endpoint share: their options and the news at their end; and `palmette eval endpoint`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from palmette.errors import RecipeError

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.data.records import DataSet
    from palmette.endpoint.client import Client
    from palmette.tasks.qa_prompt import QaPrompt

ANSWER_TOKENS = 256

UrlOption = Annotated[
    str, typer.Option("--endpoint", help="Base URL of an OpenAI-compatible server: http://localhost:8080/v1.")
]
NameOption = Annotated[str, typer.Option("--model-name", help="The model's name on the server.")]
KeyOption = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--key-variable", help="NAME of the environment variable with the API key; none is sent without."),
]
TokensOption = Annotated[int, typer.Option("--max-tokens", min=1, help="Where a reply is cut.")]
TemperatureOption = Annotated[float, typer.Option("--temperature", min=0.0, help="Of sampling; 0 is greedy.")]
ParameterOption = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--parameter", help="NAME=JSON in every request, again and again; NAME=null takes one out (temperature=null)."
    ),
]
ConcurrencyOption = Annotated[int, typer.Option("--concurrency", min=1, help="Requests under way at once.")]
RateOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--requests-per-minute", min=0.01, help="Send at most so many."),
]
TimeoutOption = Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds to wait for a reply.")]
RetriesOption = Annotated[
    int, typer.Option("--max-retries", min=0, help="Further tries of a request, with growing pauses.")
]
PriceInOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--price-in", min=0.0, help="Of a million prompt tokens, in any currency."),
]
PriceOutOption = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--price-out", min=0.0, help="Of a million completion tokens."),
]
CacheOption = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--cache", help="Folder that keeps every answer; OUT.cache if not given."),
]


def open_client(
    url: str,
    model: str,
    out: Path,
    *,
    cache: Path | None,
    max_tokens: int,
    temperature: float,
    parameters: list[str] | None,
    **settings: Any,
) -> Client:
    """A client with its cache.

    Args:
        url: base URL.
        model: the model's name on the server.
        out: what the command writes; the cache stands beside it if no other is given.
        cache: where answers are kept.
        max_tokens: where a reply is cut.
        temperature: of sampling.
        parameters: NAME=JSON, for every request.
        settings: the other attributes of `Endpoint`.

    Raises:
        PalmetteError: the URL, a parameter, the key or the cache is no good.
    """
    from palmette.endpoint.cache import AnswerCache
    from palmette.endpoint.client import Client, Endpoint

    chosen = {"max_tokens": max_tokens, "temperature": temperature, **dict(map(_parameter, parameters or []))}
    given = {name: value for name, value in chosen.items() if value is not None}
    # A client refuses what it cannot use before the cache's folder is made.
    client = Client(Endpoint(url, model, parameters=given, **settings))
    client.cache = AnswerCache((cache or out.with_name(out.name + ".cache")).expanduser())
    return client


def _parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    way_out = "Give NAME=JSON: top_p=0.9, or reasoning_effort='\"low\"'."
    if not equals or not name.strip():
        raise RecipeError(f"the parameter {text!r} has no name or no value", way_out)
    try:
        return name.strip(), json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"the value of the parameter {name!r} is not JSON: {value!r}", way_out) from error


@contextlib.contextmanager
def going_on_later(client: Client) -> Iterator[None]:
    """Tell what was used, however the block ends; and that the same command goes on, if it ends early."""
    from palmette.cli.console import stderr

    try:
        yield
    except BaseException as error:
        kept = client.tally.asked + client.tally.cached
        stderr().print(usage(client))
        if kept and client.cache:
            stderr().print(f"{kept} answers are kept in {client.cache.folder}: the same command goes on from there")
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(130) from None
        raise
    stderr().print(usage(client))


def usage(client: Client) -> str:
    """What was asked and used, in a line."""
    tally, cost = client.tally, client.tally.cost(client.endpoint)
    words = f"{tally.asked} requests answered, {tally.cached} more from the cache, {tally.failed} failed, {tally.retries} retries; "
    words += f"tokens: {tally.prompt_tokens} in, {tally.completion_tokens} out"
    words += f" (not counted by the server for {tally.uncounted} requests)" if tally.uncounted else ""
    words += "" if cost is None else f"; cost {cost:.4f}"
    words += f"; {tally.truncated} replies were cut at max_tokens" if tally.truncated else ""
    return words


def eval_endpoint(
    data: Annotated[str, typer.Option(help="builtin:test, a SQuAD v2 .json, a .jsonl, or a hub data set.")],
    out: Annotated[Path, typer.Option(help="Folder for the results, which must not exist.")],
    url: UrlOption,
    model: NameOption,
    key_variable: KeyOption = None,
    prompt: Annotated[str, typer.Option(help="A prompt by name, or a YAML file; see `palmette prompts`.")] = "plain",
    loose: Annotated[
        bool, typer.Option("--loose", help="Read an answer out of broken JSON too (it stays not valid).")
    ] = False,
    allow_failures: Annotated[
        bool,
        typer.Option("--allow-failures", help="Count questions that the server will not answer as broken replies."),
    ] = False,
    limit: Annotated[Optional[int], typer.Option(min=1, help="Use the first N documents only.")] = None,  # noqa: UP045
    max_tokens: TokensOption = ANSWER_TOKENS,
    temperature: TemperatureOption = 0.0,
    parameter: ParameterOption = None,
    concurrency: ConcurrencyOption = 4,
    requests_per_minute: RateOption = None,
    timeout: TimeoutOption = 120.0,
    max_retries: RetriesOption = 6,
    price_in: PriceInOption = None,
    price_out: PriceOutOption = None,
    cache: CacheOption = None,
) -> None:
    """Answer a data set with a chat model behind an endpoint, and write the same files as `eval squad`."""
    from palmette import run
    from palmette.data.source import read_source
    from palmette.tasks.qa_prompt import load_prompt

    run.check_absent(out)
    words = load_prompt(prompt)
    source = read_source(data, default_split="validation", limit_documents=limit)
    client = open_client(
        url,
        model,
        out,
        cache=cache,
        max_tokens=max_tokens,
        temperature=temperature,
        parameters=parameter,
        key_variable=key_variable,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        timeout=timeout,
        max_retries=max_retries,
        price_in=price_in,
        price_out=price_out,
    )
    _evaluate(client, words, source, out, loose=loose, allow_failures=allow_failures)


def _evaluate(
    client: Client, prompt: QaPrompt, source: DataSet, out: Path, *, loose: bool, allow_failures: bool
) -> None:
    from palmette import run
    from palmette.cli.console import metrics_table, stderr, stdout
    from palmette.endpoint.answers import EndpointDecoder
    from palmette.evaluate.squad import evaluate_squad
    from palmette.pages.evaluation.folder import REPORT, write_evaluation

    name = client.endpoint.model
    decoder = EndpointDecoder(client, prompt, loose=loose, on_failure="broken" if allow_failures else "error")
    with run.whole_folder(out) as staging, going_on_later(client):
        result = evaluate_squad(decoder, source.documents)
        day = datetime.now(UTC).date().isoformat()
        title = f"{name} on {Path(source.source).name}"
        write_evaluation(result, staging, title, f"{name} behind an endpoint, on {source.source}, {day}")
        about = {
            **run.environment(),
            **client.about(),
            "decoder": "endpoint",
            "loose": loose,
            "prompt_sha256": prompt.sha256,
            "failures": {question: error.problem for question, error in decoder.failures.items()},
            "data": source.describe(),
        }
        run.write_json(staging / "evaluation.json", about)
    stdout().print(metrics_table({name: result.metrics}, result.intervals))
    failed = f"; {len(decoder.failures)} without a reply" if decoder.failures else ""
    stderr().print(
        f"{len(result.scored)} questions in {result.seconds:.0f} s{failed}; files in {out}; look at {out / REPORT}"
    )
