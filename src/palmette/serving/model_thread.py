"""The one thread that loads and runs models, and the queue before it.

Questions about one document that wait together are answered in one call, which reads the document once. Replies of free
text grow together, a token of each in a pass, and answers are given between two passes. So a long reply does not hold
up a short answer. Models that share a base take turns of several passes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from palmette.decode.prediction import Prediction
from palmette.decode.prefix_cache import PrefixCache
from palmette.errors import PalmetteError
from palmette.inference.answerer import Answerer
from palmette.inference.together import Placed
from palmette.serving.jobs import AnswerJob, Job, WriteJob
from palmette.serving.metrics import Metrics
from palmette.serving.reader import DocumentReader
from palmette.serving.writer import CompletionWriter

MAX_QUESTIONS = 64  # questions of different requests in one call
# Passes of a writer in a row, once its weights were put in place of another model's, which takes as long as a few.
TURN = 32
State = Literal["loading", "ready", "failed"]


class QueueFullError(Exception):
    """So many jobs wait that no more are taken."""


class _AbandonedError(Exception):
    """Nobody waits for a batch any more."""


@dataclass(frozen=True)
class ServedModel:
    """A model that is served.

    Attributes:
        answerer: the model.
        reader: answers questions about documents, and reads fields.
        writer: writes free text.
        place: puts the model's weights where those of another one were, and says whether it had to. Called before the
            reader or the writer is.
    """

    answerer: Answerer
    reader: DocumentReader
    writer: CompletionWriter
    place: Callable[[], bool] = lambda: False

    @classmethod
    def open(cls, placed: Placed, kept_tokens: int, cache: PrefixCache | None = None) -> ServedModel:
        """A model, made ready.

        Args:
            placed: the model.
            kept_tokens: as for `DocumentReader`.
            cache: as for `DocumentReader`. It is emptied when the model's weights are put in place.

        Raises:
            DataError, RunError: as for `DocumentReader`.
        """

        def place() -> bool:
            switched = placed.place()
            if switched and cache is not None:
                cache.truncate(0)
            return switched

        reader = DocumentReader(placed.answerer, kept_tokens, cache)
        return cls(placed.answerer, reader, CompletionWriter(placed.answerer.loaded), place)


def open_models(opened: Mapping[str, Placed], kept_tokens: int) -> dict[str, ServedModel]:
    """Models made ready. Those that share a base also share the memory in which questions are asked.

    Args:
        opened: the models by name.
        kept_tokens: how many tokens of documents stay in memory, for each model.

    Raises:
        DataError, RunError: as for `DocumentReader`.
    """
    caches: dict[int, PrefixCache] = {}
    models: dict[str, ServedModel] = {}
    for name, placed in opened.items():
        cache = None
        if placed.shared:
            base = id(placed.answerer.loaded.model)
            cache = caches[base] = caches.get(base) or placed.answerer.span_decoder().new_cache()
        models[name] = ServedModel.open(placed, kept_tokens, cache)
    return models


class ModelThread:
    """Loads models, and does jobs.

    Args:
        load: loads the models, by name.
        max_waiting: the most jobs that wait.
        metrics: counts what is done.
        settled: called once the models are loaded, or once it is clear that they cannot be.

    Attributes:
        state: "loading", "ready", or "failed".
        failure: why the models could not be loaded.
        models: the models by name, once they are loaded.
    """

    def __init__(
        self,
        load: Callable[[], Mapping[str, ServedModel]],
        *,
        max_waiting: int,
        metrics: Metrics,
        settled: Callable[[], None] = lambda: None,
    ) -> None:
        self._load, self._max_waiting, self._metrics, self._settled = load, max_waiting, metrics, settled
        self.state: State = "loading"
        self.failure: BaseException | None = None
        self.models: Mapping[str, ServedModel] = {}
        self._jobs: list[Job] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="models", daemon=True)

    def start(self) -> None:
        """Begin to load the models."""
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """The number of jobs that wait."""
        return len(self._jobs) + sum(model.writer.num_waiting for model in self.models.values())

    def submit(self, job: Job) -> None:
        """Put a job into the queue. Its future is done by the thread.

        Raises:
            QueueFullError: too many jobs wait.
        """
        with self._changed:
            if self.num_waiting >= self._max_waiting:
                self._drop_gone()
            if self.num_waiting >= self._max_waiting:
                raise QueueFullError
            self._jobs.append(job)
            self._changed.notify()

    def _drop_gone(self) -> None:
        """Give up the jobs in the queue that nobody waits for any more."""
        for job in [job for job in self._jobs if job.gone]:
            self._jobs.remove(job)
            job.drop()

    def stop(self) -> None:
        """End the thread once all jobs are done."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        try:
            self.models = self._load()
        except BaseException as error:
            self.failure, self.state = error, "failed"
            self._settled()
            return
        self.state = "ready"
        self._settled()
        while self._wait():
            self._answer_next()
            for model in self.models.values():
                self._write(model)

    def _wait(self) -> bool:
        """Wait for work, and hand the prompts among it to the writers. False if the thread shall end."""

        def is_busy() -> bool:
            return bool(self._jobs) or any(model.writer.is_busy for model in self.models.values())

        with self._changed:
            while not is_busy():
                if self._stopping:
                    return False
                self._changed.wait()
            prompts = [job for job in self._jobs if isinstance(job, WriteJob)]
            self._jobs = [job for job in self._jobs if not isinstance(job, WriteJob)]
        for prompt in prompts:
            self.models[prompt.model].writer.add(prompt)
        return True

    def _answer_next(self) -> None:
        """Answer the job that has waited longest, and all others about the same document."""
        with self._changed:
            batch = self._take()
        if not batch:
            return
        self._metrics.count("batches_total")
        self._metrics.count("questions_total", sum(len(job.questions) for job in batch))
        outcome = self._answered(batch)
        if isinstance(outcome, PalmetteError) and len(batch) > 1:  # one of them is at fault
            for job in batch:
                self._settle([job], self._answered([job]))
        else:
            self._settle(batch, outcome)

    def _write(self, model: ServedModel) -> None:
        """Let the replies of a model grow: by a token, or by several if its weights had to be put in place for that."""
        if not model.writer.is_busy:
            return
        try:
            passes = TURN if self._place(model) else 1
        except Exception as error:
            model.writer.fail(error)
            return
        for _ in range(passes):
            model.writer.step()

    def _place(self, model: ServedModel) -> bool:
        """Put the weights of a model in place. The result is whether others were there."""
        switched = model.place()
        self._metrics.count("switches_total", int(switched))
        return switched

    def _take(self) -> list[AnswerJob]:
        jobs = [job for job in self._jobs if isinstance(job, AnswerJob)]
        batch: list[AnswerJob] = []
        for job in jobs:
            if job.gone:
                job.drop()
                self._jobs.remove(job)
            elif not batch or (
                _kind(job) == _kind(batch[0])
                and sum(len(one.questions) for one in batch) + len(job.questions) <= MAX_QUESTIONS
            ):
                batch.append(job)
                self._jobs.remove(job)
        return batch

    def _answered(self, batch: list[AnswerJob]) -> list[Prediction] | Exception:
        """The predictions for all questions of a batch, or what went wrong."""

        def watch(*_: int) -> None:
            if all(job.gone for job in batch):
                raise _AbandonedError

        first = batch[0]
        model = self.models[first.model]
        reader, questions = model.reader, [question for job in batch for question in job.questions]
        try:
            self._place(model)
            if first.schema is not None:
                return list(reader.extract(first.document, first.schema, read_all=first.read_all, watch=watch))
            return reader.answer(first.document, questions, read_all=first.read_all, watch=watch)
        except Exception as error:  # whatever one batch causes, the next ones are answered
            return error

    def _settle(self, batch: list[AnswerJob], outcome: list[Prediction] | Exception) -> None:
        """Give each job of a batch its predictions, or the error."""
        at = 0
        for job in batch:
            if isinstance(outcome, _AbandonedError):
                job.drop()
            elif isinstance(outcome, Exception):
                job.fail(outcome)
            else:
                own, at = outcome[at : at + len(job.questions)], at + len(job.questions)
                try:
                    job.finish(job.made(own))
                except Exception as error:
                    job.fail(error)


def _kind(job: AnswerJob) -> tuple[str, str, bool, AnswerJob | None]:
    """What jobs have in common that are answered in one call. One with a schema is answered by itself."""
    return job.model, job.document.id, job.read_all, None if job.schema is None else job
