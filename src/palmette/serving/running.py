"""The server from its start to its end."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from palmette.serving.application import build_application
from palmette.serving.documents import Documents
from palmette.serving.metrics import Metrics
from palmette.serving.model_thread import ModelThread, ServedModel
from palmette.serving.served import Served
from palmette.web.serving import new_server

STOPPING = 300  # seconds in which what was accepted is answered


def run_server(
    load: Callable[[], Mapping[str, ServedModel]],
    opened: socket.socket,
    *,
    hosts: frozenset[str],
    keys: Sequence[str] = (),
    max_waiting: int = 64,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve models until SIGTERM or Ctrl-C. What was accepted by then is answered first.

    Args:
        load: loads the models.
        opened: the socket that listens.
        hosts: the `Host` headers that are allowed.
        keys: the API keys.
        max_waiting: the most requests that wait for a model.
        ready: called once the models are loaded.

    Raises:
        Exception: what loading the models ended in.
    """
    metrics = Metrics()

    def settled() -> None:
        if thread.state == "ready":
            ready()
        else:
            server.should_exit = True

    thread = ModelThread(load, max_waiting=max_waiting, metrics=metrics, settled=settled)
    served = Served(thread, Documents(), metrics, int(time.time()))
    server = new_server(build_application(served, hosts=hosts, keys=keys), STOPPING)
    metrics.watch("waiting_requests", "Requests that wait for a model.", lambda: thread.num_waiting)
    metrics.watch("kept_tokens", "Tokens of documents that are kept in memory.", lambda: _kept_tokens(thread))
    # The server raises the signal again once it has ended. This one has been heeded by then.
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        thread.start()
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[opened])
        if thread.state == "ready":
            thread.stop()
    finally:
        signal.signal(signal.SIGTERM, before)
    if thread.failure is not None:
        raise thread.failure


def _kept_tokens(thread: ModelThread) -> int:
    return sum(model.reader.num_kept_tokens for model in list(thread.models.values()))
