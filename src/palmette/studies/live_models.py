"""Models that people talk with in the free chat of an arena, loaded and ready."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from palmette.arena.chats import Speaker, check_models
from palmette.arena.naming import names_of
from palmette.inference.names import resolve_model
from palmette.judge.repliers import EndpointReplier, LocalReplier
from palmette.judge.spec import read_endpoint
from palmette.studies.arena_answers import Replying


def open_speakers(models: Sequence[str], replying: Replying) -> list[Speaker]:
    """Load models to talk with. All of them stay in memory.

    Args:
        models: names of models and runs, and YAML files that describe an endpoint.
        replying: how replies are written.

    Raises:
        DataError: a file describes no endpoint, there are fewer than two models, or two of one name.
        ModelError, EndpointError, RunError: a model cannot be used.
    """
    check_models([name if (one := read_endpoint(name)) is None else one.model for name in models])
    return [_speaker(name, replying) for name in models]


def _speaker(name: str, replying: Replying) -> Speaker:
    endpoint = read_endpoint(name)
    if endpoint is not None:
        remote = EndpointReplier(endpoint, replying.max_new_tokens, replying.seed)
        return Speaker(
            endpoint.model, names_of(endpoint.model), partial(remote.reply, temperature=replying.temperature)
        )
    base = resolve_model(name).base
    local = LocalReplier(name, replying.max_new_tokens, replying.seed)
    return Speaker(name, names_of(name, base), partial(local.reply, temperature=replying.temperature))
