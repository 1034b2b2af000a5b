"""What writes texts for `palmette synth`: a local model or an endpoint, by the options of a command."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.endpoint import open_client, reporting_usage
from palmette.cli.options import DEFAULT_MODEL, MODEL
from palmette.endpoint.settings import Endpoint
from palmette.synth.licences import Licences

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.synth.writers import Writer

WriterOption = Annotated[
    str | None,
    typer.Option(
        help="The local model that writes: a run folder, a model folder, a GGUF file, or a hub id. By default the "
        "built-in model, unless there is an endpoint.",
        **MODEL,
    ),
]


def read_licences(
    *,
    licence: Annotated[
        str | None,
        typer.Option(
            help="The licence of what the writer writes, for the report. By default the one that a local model states."
        ),
    ] = None,
    source_licence: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LICENCE",
            help="The licence of the sources, for the report, or SOURCE=LICENCE for one of them. May be repeated.",
        ),
    ] = None,
) -> Licences:
    """The licences that the options of a command name."""
    return Licences(licence, tuple(source_licence or ()))


def opening_writer(
    endpoint: Endpoint, writer: str | None, cache: Path | None, out: Path, seed: int = 0
) -> contextlib.AbstractContextManager[Callable[[], Writer]]:
    """A block with a function that opens the writer that the options name.

    The options are checked now. The usage of an endpoint is printed when the block ends.

    Args:
        endpoint: the endpoint. Its URL and model are empty if there is none.
        writer: the local model. None stands for the built-in one.
        cache: the folder that stores completions of an endpoint.
        out: the output, beside which the cache is by default.
        seed: random seed of a local model.

    Raises:
        DataError: both are given, or half of an endpoint.
    """
    from palmette.errors import DataError

    if not endpoint.url and not endpoint.model:
        return contextlib.nullcontext(lambda: _local(writer or DEFAULT_MODEL, endpoint, seed))
    if writer is not None or not (endpoint.url and endpoint.model):
        raise DataError("it is not clear what writes", "Give --writer, or --endpoint and --model-name together.")
    return _asked(endpoint, cache, out)


def _local(name: str, endpoint: Endpoint, seed: int) -> Writer:
    from palmette.synth.writers import load_writer

    return load_writer(name, endpoint.parameters, seed)


@contextlib.contextmanager
def _asked(endpoint: Endpoint, cache: Path | None, out: Path) -> Iterator[Callable[[], Writer]]:
    from palmette.synth.writers import EndpointWriter

    client = open_client(endpoint, cache, out)
    with reporting_usage(client):
        yield lambda: EndpointWriter(client)
