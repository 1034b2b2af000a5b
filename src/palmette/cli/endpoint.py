"""`palmette eval endpoint`, and what it shares with other commands that ask a server.

These commands have the same options, and print the same lines at the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import (
    MODEL,
    PATH,
    DataOption,
    LimitOption,
    LimitQuestionsOption,
    LooseOption,
    OutOption,
    expanded,
)
from palmette.endpoint.settings import Endpoint, request_parameters

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.endpoint.client import Client

ANSWER_TOKENS = 256

CacheOption = Annotated[
    Path | None,
    typer.Option("--cache", help="Folder that stores every completion. By default OUT.cache.", **PATH),
]


def read_endpoint(
    *,
    url: Annotated[
        str,
        typer.Option(
            "--endpoint", metavar="URL", help="Base URL of an OpenAI-compatible server: http://localhost:8080/v1."
        ),
    ],
    model_name: Annotated[str, typer.Option(metavar="NAME", help="The model's name on the server.")],
    key_variable: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Name of the environment variable with the API key. No key is sent without it."
        ),
    ] = Endpoint.key_variable,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest completion, in tokens.")] = ANSWER_TOKENS,
    temperature: Annotated[float, typer.Option(min=0.0, help="Sampling temperature. 0 is greedy.")] = 0.0,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=JSON",
            help="NAME=JSON to send with every request. May be repeated. NAME=null removes a parameter.",
        ),
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests under way at once.")] = Endpoint.concurrency,
    requests_per_minute: Annotated[
        float | None,
        typer.Option(min=0.01, help="Limit on the requests sent in a minute."),
    ] = Endpoint.requests_per_minute,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a response.")] = Endpoint.timeout,
    max_retries: Annotated[
        int, typer.Option(min=0, help="Further attempts at a request that failed, with growing pauses.")
    ] = Endpoint.max_retries,
    price_in: Annotated[
        float | None,
        typer.Option(min=0.0, help="Price of a million prompt tokens, in any currency."),
    ] = Endpoint.price_in,
    price_out: Annotated[
        float | None,
        typer.Option(min=0.0, help="Price of a million completion tokens."),
    ] = Endpoint.price_out,
) -> Endpoint:
    """The endpoint that the options of a command describe. The options are listed only in this signature."""
    return Endpoint(
        url,
        model_name,
        key_variable,
        request_parameters(max_new_tokens, temperature, parameter or ()),
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        timeout=timeout,
        max_retries=max_retries,
        price_in=price_in,
        price_out=price_out,
    )


def open_client(endpoint: Endpoint, cache: Path | None, out: Path) -> Client:
    """A client whose cache is the given folder. Without one, the cache is beside the command's output."""
    from palmette.endpoint.client import Client

    return Client(endpoint, cache or out.with_name(out.name + ".cache"))


@contextlib.contextmanager
def reporting_usage(client: Client) -> Iterator[None]:
    """Print the usage when the block ends. If it ends early, also say that the same command continues the job."""
    from palmette.cli.console import stderr
    from palmette.endpoint.usage import Usage

    usage = client.usage
    try:
        yield
    except BaseException as error:
        if usage != Usage():
            stderr().print(usage.summary(client.endpoint))
        if (stored := usage.asked + usage.cached) and client.cache:
            stderr().print(
                f"{stored} answers are kept in {client.cache.folder}. The same command continues from there."
            )
        if isinstance(error, KeyboardInterrupt):
            raise typer.Exit(130) from None
        raise
    stderr().print(usage.summary(client.endpoint))


@expanded("endpoint", read_endpoint, max_new_tokens=ANSWER_TOKENS)
def eval_endpoint(
    *,
    data: DataOption,
    out: OutOption,
    endpoint: Endpoint,
    prompt: Annotated[
        str,
        typer.Option(help="A prompt's name, or a YAML file. See `palmette prompts`.", **{**MODEL, "metavar": "PROMPT"}),
    ] = "plain",
    loose: LooseOption = False,
    allow_failures: Annotated[
        bool,
        typer.Option("--allow-failures", help="Count questions that the server does not answer as broken completions."),
    ] = False,
    limit: LimitOption = None,
    limit_questions: LimitQuestionsOption = None,
    cache: CacheOption = None,
) -> None:
    """Answer a data set with a chat model behind an endpoint.

    It writes the same files as `eval squad`.
    """
    from palmette.cli.console import metrics_table, stderr, stdout
    from palmette.data.source import read_source
    from palmette.endpoint.decoder import EndpointDecoder
    from palmette.pages.evaluation.folder import REPORT
    from palmette.run import check_absent
    from palmette.studies.answering import evaluate_decoder
    from palmette.studies.measuring import first_questions
    from palmette.tasks.qa_prompt import load_prompt

    check_absent(out)
    wording = load_prompt(prompt)
    source = first_questions(read_source(data, default_split="validation", limit_documents=limit), limit_questions)
    client = open_client(endpoint, cache, out)
    decoder = EndpointDecoder(client, wording, loose=loose, on_failure="broken" if allow_failures else "error")
    with reporting_usage(client):
        result = evaluate_decoder(
            decoder, source, out, name=endpoint.model, asked_by="an endpoint", about=decoder.about
        )
    stdout().print(metrics_table({endpoint.model: result.metrics}, result.intervals))
    unanswered = f" {len(decoder.failures)} without a reply." if decoder.failures else ""
    stderr().print(
        f"{len(result.scored)} questions in {result.seconds:.0f} s.{unanswered} Files in {out}. Open {out / REPORT}."
    )
