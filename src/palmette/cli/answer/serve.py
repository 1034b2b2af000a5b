"""`palmette serve`: models over HTTP."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import PATH, AttentionOption, expanded_name
from palmette.cli.packages import check_web_packages

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.inference.names import ModelSource
    from palmette.serving.model_thread import ServedModel

ModelsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--model",
        help="A model, and the name that clients give it. May be given several times. By default `reader`, the run "
        "that comes with the package.",
        metavar="[NAME=]MODEL",
    ),
]
RunsOption = Annotated[
    Path | None,
    typer.Option(
        "--runs",
        help="A folder of runs. Each that answers questions is served under its name. Three or more of the same base "
        "model share it in memory.",
        **PATH,
    ),
]
HostOption = Annotated[str, typer.Option("--host", help="Address to listen at. 0.0.0.0 lets other machines in.")]
PortOption = Annotated[
    int, typer.Option("--port", min=0, max=65535, help="Port to listen at. 0 takes any that is free.")
]
KeysOption = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        help="A file of API keys, one a line. It is needed with an address that other machines can reach.",
        **PATH,
    ),
]
AllowHostOption = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-host",
        help="Another name under which the server may be asked, such as that of a proxy before it. May be given "
        "several times.",
        metavar="NAME",
    ),
]
MaxWaitingOption = Annotated[
    int, typer.Option("--max-waiting", min=1, help="Most requests that wait. More are turned away with status 503.")
]
KeptTokensOption = Annotated[
    int, typer.Option("--kept-tokens", min=0, help="Tokens of documents that stay in memory, for each model.")
]


def serve(
    *,
    model: ModelsOption = None,
    runs: RunsOption = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    api_key_file: KeysOption = None,
    allow_host: AllowHostOption = None,
    max_waiting: MaxWaitingOption = 64,
    kept_tokens: KeptTokensOption = 16_384,
    attention: AttentionOption = None,
) -> None:
    """Serve models over HTTP, for OpenAI clients and others.

    Any OpenAI client can be used. A conversation that is the model's own prompt gets its exact answer as JSON. The
    endpoint /v1/answers answers questions about a document with places and probabilities. Each request leaves a line of
    JSON on standard error, without its contents. SIGTERM and Ctrl-C end the server once what it accepted is answered.
    """
    check_web_packages("the server needs packages", "fastapi", "psutil", "uvicorn")
    from palmette.cli.choice import named_or_chosen
    from palmette.cli.console import stderr
    from palmette.hosts import is_loopback
    from palmette.inference.excerpt import printable
    from palmette.inference.names import resolve_answerer, runs_in
    from palmette.serving.keys import read_keys
    from palmette.serving.names import allowed_hosts, can_be_sent, model_names
    from palmette.startup import quick_imports
    from palmette.web.serving import listen

    news = stderr()
    keys = read_keys(api_key_file, host)
    found, others = runs_in(runs) if runs is not None else ({}, [])
    others += [f"{path} has a name that no client can send" for path in found if not can_be_sent(Path(path).name)]
    for problem in others:
        news.print(printable(f"Left out: {problem}."))
    inside = [f"{Path(path).name}={path}" for path in found if can_be_sent(Path(path).name)]
    inside = inside or list(found)  # if there is none with such a name, the first is refused
    named = model_names([*(model or []), *inside] or [named_or_chosen(None, news)])
    sources = {name: found.get(one) or resolve_answerer(expanded_name(one)) for name, one in named.items()}
    with contextlib.closing(listen(host, port)) as opened:
        address, taken = f"[{host}]" if ":" in host else host, opened.getsockname()[1]
        if not is_loopback(host):
            news.print("The connection is not encrypted. Use it in a network that you trust, or behind a proxy.")
        news.print(f"Loading {', '.join(named)}. Ctrl-C ends the server.")

        def say_ready() -> None:
            typer.echo(f"Ready at http://{address}:{taken}/v1")

        with quick_imports(freeze=True):
            from palmette.serving.running import run_server
        hosts = allowed_hosts(host, taken, allow_host or ())
        load = _loader(sources, kept_tokens, attention)
        run_server(load, opened, hosts=hosts, keys=keys, max_waiting=max_waiting, ready=say_ready)
        news.print(printable("Stopped."))


def _loader(
    sources: Mapping[str, ModelSource], kept_tokens: int, attention: str | None
) -> Callable[[], Mapping[str, ServedModel]]:
    """What loads the models."""

    def load() -> Mapping[str, ServedModel]:
        from palmette.inference.together import open_together
        from palmette.model.memory import keep_few_kernels
        from palmette.serving.model_thread import open_models

        keep_few_kernels()
        return open_models(open_together(sources, attention=attention), kept_tokens)  # type: ignore[arg-type]

    return load
