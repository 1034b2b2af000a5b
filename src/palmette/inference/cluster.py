"""A file of questions answered on a Ray cluster: the job of `inference/job.py`, with chunks answered by many workers.

The process that was started reads the input and writes the output, as it does alone. Each worker holds the model. So
the output is the same file in the same order, and a job may be begun alone and continued on a cluster, or the other way
round. A worker that dies is started again elsewhere, and its chunks are answered again.

This uses Ray's actors and not Ray Data, which would write files of its own, in no order, and know nothing of what is
answered already.
"""

from __future__ import annotations

import itertools
import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.inputs import Input
from palmette.data.stream import Row
from palmette.decode.effort import Effort
from palmette.decode.prediction import Decoder
from palmette.errors import RunError, reason_of
from palmette.inference.answerer import Answerer, open_answerer
from palmette.inference.job import Describe, Record, Work, answer_chunk, answer_record, job_settings, predict_input
from palmette.inference.names import resolve_answerer
from palmette.inference.tally import Tally
from palmette.model.attention import AttentionChoice

LOCAL, OWN = "local", "auto"  # as the address: a cluster that ends with the job, and the one of this machine
_CHUNKS_AHEAD = 2  # of each worker, so that none waits for the next one
_SECONDS = 10  # to reach a cluster
_RESTARTS = 8  # of each worker, and tries of a chunk


def spans(answerer: Answerer, effort: Effort) -> tuple[Decoder, Describe]:
    """The span decoder of a model, and its answers as lines of `palmette predict`."""
    return answerer.span_decoder(effort), answer_record


@dataclass(frozen=True)
class Reading:
    """How every worker answers.

    Attributes:
        model: the name of the model, which every machine of the cluster must be able to open.
        attention: the attention backend. None for the recipe's.
        calibrated: whether the calibration is used.
        max_words, inside_words: as for `predict_file`.
        opened: what answers, made from the model, and what a line says about an answer. A function of a module, since
            it is sent to the workers.
        cost_wrong: what a wrong answer costs. As calibrated if None. See `load_answerer`.
        folder: the folder in which the job was started. Relative names are looked up there, on machines that have it.
            None for the working folder of the worker, which is where `ray start` was called.
    """

    model: str
    attention: AttentionChoice | None = None
    calibrated: bool = True
    max_words: int | None = None
    inside_words: bool | None = None
    opened: Callable[[Answerer, Effort], tuple[Decoder, Describe]] = spans
    cost_wrong: float | None = None
    folder: Path | None = None


class Worker:
    """Holds a model in a process of a cluster. The model is loaded when it is first needed, also after a restart.

    Args:
        reading: how it answers.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._answerer: Any = None
        self._decoder: Any = None
        self._describe: Any = None

    def settings(self) -> Record:
        """What answers depend on. Errors are those of `open_answerer`."""
        reading = self._reading
        self._load()
        return job_settings(self._answerer, reading.max_words, reading.inside_words)

    def answer(self, chunk: list[Row]) -> list[Record]:
        """The lines of the output for a chunk."""
        self._load()
        return answer_chunk(self._decoder, chunk, describe=self._describe)

    def _load(self) -> None:
        reading = self._reading
        if self._answerer is None:
            if reading.folder is not None and reading.folder.is_dir():
                os.chdir(reading.folder)
            source = resolve_answerer(reading.model)
            self._answerer = open_answerer(
                source, attention=reading.attention, calibrated=reading.calibrated, cost_wrong=reading.cost_wrong
            )
            effort = self._answerer.effort(reading.max_words, reading.inside_words)
            self._decoder, self._describe = reading.opened(self._answerer, effort)


def predict_on_cluster(
    reading: Reading, source: str | Input, out: Path, *, address: str, workers: int | None = None
) -> Tally:
    """Answer a file of questions on a Ray cluster. A job that was stopped is continued.

    Args:
        reading: how workers answer.
        source: the input, as for `predict_file`.
        out: the output, as for `predict_file`. This process alone writes it.
        address: the address of the cluster, "auto" for the one that this machine belongs to, or "local" to begin one
            here.
        workers: how many workers. None for one on each GPU, or on each machine of a cluster without GPUs.

    Raises:
        RunError: Ray is not installed, the cluster cannot be reached or has too little room, its machines do not have
            the same model, or as for `predict_file`.
        ModelError, DataError: as for `open_answerer` and `predict_file`.
    """
    with cluster_work(reading, address=address, workers=workers) as (work, settings):
        return predict_input(work, source, out, settings)


@contextmanager
def cluster_work(reading: Reading, *, address: str, workers: int | None = None) -> Iterator[tuple[Work, Record]]:
    """Workers on a Ray cluster as what answers the chunks of a job, and what their answers depend on.

    Arguments and errors are those of `predict_on_cluster`.
    """
    ray = _join(address)
    try:
        pool = _hire(ray, reading, workers)
        found = _results(ray, [worker.settings.remote() for worker in pool])
        for number, other in enumerate(found):
            where, way_out = f"worker {number} of the cluster", "Give every machine the same model."
            run.check_same(found[0], other, where=where, way_out=way_out)
        yield lambda chunks, _: _shared(ray, pool, chunks), found[0]
    finally:
        ray.shutdown()


def _hire(ray: Any, reading: Reading, workers: int | None) -> list[Any]:
    """The workers, each with its share of the cluster's processors."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus, cpus = ([int(machine.get(kind, 0)) for machine in machines] for kind in ("GPU", "CPU"))
    number = workers or sum(gpus) or len(machines)
    if number > max(sum(gpus), sum(cpus)):
        raise RunError(
            f"{number} workers need as many processors, and the cluster has {sum(cpus)}",
            "Give --workers a lower number.",
        )
    room = {"num_gpus": 1} if sum(gpus) >= number else {"num_cpus": processors_each(cpus, number)}
    actor = ray.remote(max_restarts=_RESTARTS, max_task_retries=_RESTARTS, **room)(Worker)
    started = replace(reading, folder=Path.cwd())
    return [actor.remote(started) for _ in range(number)]


def processors_each(machines: Sequence[int], number: int) -> int:
    """The most processors that each of so many workers can have, where a worker stays on one machine.

    >>> processors_each([8, 2], 3), processors_each([8, 2], 10)
    (2, 1)

    Args:
        machines: processors of each machine, at least `number` in all.
        number: how many workers.
    """
    return max(each for each in range(1, max(machines) + 1) if sum(one // each for one in machines) >= number)


def _shared(ray: Any, pool: list[Any], chunks: Iterable[list[Row]]) -> Iterator[list[Record]]:
    """The lines of the output for each chunk, in order. Every worker has a few chunks to do."""
    turns, waiting = itertools.cycle(pool), deque[Any]()
    for chunk in chunks:
        waiting.append(next(turns).answer.remote(chunk))
        if len(waiting) >= _CHUNKS_AHEAD * len(pool):
            yield from _results(ray, [waiting.popleft()])
    while waiting:
        yield from _results(ray, [waiting.popleft()])


def _results(ray: Any, asked: list[Any]) -> list[Any]:
    """What workers gave. An error of palmette comes as it was raised there."""
    try:
        return list(ray.get(asked))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayActorError as error:
        raise RunError(
            f"a worker died {_RESTARTS} times: {reason_of(error)}",
            "See the logs of Ray on that machine. Give the same command again to go on.",
        ) from error


def _join(address: str) -> Any:
    """Ray, connected to a cluster."""
    try:
        import ray
    except ImportError as error:
        raise RunError("Ray is not installed", "Install it with: pip install 'palmette[cluster]'") from error
    try:
        if address not in (LOCAL, OWN):  # Ray would try for minutes
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=_SECONDS).close()
        ray.init(address, include_dashboard=False if address == LOCAL else None, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        if address == OWN and "Could not find any running Ray instance" in str(error):
            raise RunError(
                "this machine belongs to no Ray cluster",
                "Begin one with `ray start --head`, give the address of another as HOST:PORT, or local for a new one "
                "on this machine.",
            ) from error
        raise RunError(
            f"the Ray cluster {address!r} cannot be reached: {reason_of(error)}",
            "Give the address that `ray start --head` printed, as HOST:PORT, or auto, or local. If the cluster asks "
            "for a token, set RAY_AUTH_MODE=token.",
        ) from error
    return ray
