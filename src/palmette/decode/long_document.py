"""One document that stays open: its windows are read once, and only as far as the questions need them.

A first look orders the windows for each question by its words (`decode/window_prior.py`) and reads the likeliest, a few
at a time, until the chance that the answer stands in the rest is small, or until a limit. Documents of a few windows
are read whole. What windows were read, and in which order, depends on the document, the questions and the model alone.
So do the answers, to the last bit, whatever was read or asked before.

A window is read by itself, and its keys and values are kept. Where windows are read together with their questions, as
`SpanDecoder.predict` does, sums are rounded otherwise. So the two agree up to the precision of the model.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

from palmette.data.records import Document, Question
from palmette.decode.asking import Reading, WindowQuestion
from palmette.decode.posterior import SpanPosterior, WindowScores
from palmette.decode.prediction import Prediction
from palmette.decode.prefix_cache import PrefixCache, States
from palmette.decode.span_decoder import AskedWindow, SpanDecoder, options_of
from palmette.decode.window_prior import WindowPrior, likeliest_first

KEPT_BYTES = 600 * 2**20  # keys and values of windows in memory
KEPT_TRIES = 16  # about 13 megabytes each


@dataclass(frozen=True, slots=True)
class FirstLook:
    """How much of a long document is read for a question.

    Attributes:
        whole_windows: documents of up to so many windows are read whole.
        max_windows: the most windows that are read for one question.
        windows_per_round: how many of them are read before the question is looked at again.
        max_unread: stop once the probability that the answer stands in a window that was not read is at most this.
    """

    whole_windows: int = 4
    max_windows: int = 12
    windows_per_round: int = 4
    max_unread: float = 0.05


class StateStore(Protocol):
    """Keeps the keys and values of windows beyond one document, on a disk for example."""

    def get(self, tokens: Sequence[int]) -> States | None:
        """The keys and values of a window, or None if they are not kept."""

    def put(self, tokens: Sequence[int], states: States) -> None:
        """Keep the keys and values of a window."""


# Called when a window has been read for the questions, with how many of how many windows are known now.
Watch = Callable[[int, int], None]


class LongDocument:
    """A document that questions are asked about, again and again.

    Args:
        decoder: what answers.
        document: the document. Its own questions are not looked at.
        first_look: how much is read for a question. Everything if None.
        store: keeps what was read beyond this document.
        kept_bytes: how many bytes of keys and values stay in memory.
        cache: what questions are asked in, as `SpanDecoder.new_cache` makes it. Documents of one decoder may share it.
            One of its own if None.

    Attributes:
        num_windows: the number of windows of the document.
        num_computed: how many times the model has read a window.
    """

    def __init__(
        self,
        decoder: SpanDecoder,
        document: Document,
        *,
        first_look: FirstLook | None = None,
        store: StateStore | None = None,
        kept_bytes: int = KEPT_BYTES,
        cache: PrefixCache | None = None,
    ) -> None:
        self._decoder, self._document, self._store = decoder, document, store
        self._windows = decoder.windows(document.text)
        self.num_windows, self.num_computed = len(self._windows), 0
        whole = first_look is None or self.num_windows <= first_look.whole_windows
        self._look = None if whole else first_look
        self._window_prior = WindowPrior(document.text, self._windows) if self._look else None
        self._cache = cache or decoder.new_cache()
        self._states: OrderedDict[int, States] = OrderedDict()
        self._kept_bytes = kept_bytes
        self._readings: OrderedDict[int, Reading] = OrderedDict()

    @property
    def num_kept_tokens(self) -> int:
        """The number of tokens of the document whose keys and values are in memory."""
        return sum(states[0][0].shape[-2] for states in self._states.values())

    def posteriors(
        self,
        questions: Sequence[Question],
        watch: Watch = lambda *_: None,
        *,
        options: Mapping[str, Sequence[str]] = MappingProxyType({}),
        least: Mapping[str, float] = MappingProxyType({}),
        read_all: bool = False,
    ) -> dict[str, SpanPosterior]:
        """The posterior of each question, by its id, and by `options_of(id)` that of its options if it has any.

        Args:
            questions: questions with ids of their own.
            watch: told of the progress.
            options: as for `SpanDecoder.read_fields`. They are scored in the windows that are read for their question.
            least: as for `SpanDecoder.read_fields`.
            read_all: whether every window is read for these questions, instead of a first look.

        Raises:
            PackingError: a question is so long that it does not fit into a batch with a window of the document.
            ModelError: the model has fewer positions than a window, a question and an answer need.
        """
        look, prior = (None, None) if read_all else (self._look, self._window_prior)
        waiting = [AskedQuestion(one, self.num_windows, look, prior, options.get(one.id, ())) for one in questions]
        done: dict[str, SpanPosterior] = {}
        progress = _Progress(watch, waiting)
        while waiting:
            self._round(waiting, progress, least)
            for asked in waiting:
                posterior = asked.posterior()
                if asked.is_done(self._decoder.decision.decide(posterior)):
                    done[asked.question.id] = posterior
                    if asked.options:
                        done[options_of(asked.question.id)] = asked.option_posterior()
            waiting = [asked for asked in waiting if asked.question.id not in done]
        return done

    def _round(self, waiting: Sequence[AskedQuestion], progress: _Progress, least: Mapping[str, float]) -> None:
        """Ask every waiting question in the next windows of its own."""
        tokens = dict(self._decoder.opened(asked.question for asked in waiting))
        wanted: dict[int, list[str]] = {}
        for asked in waiting:
            for index in asked.next_windows():
                wanted.setdefault(index, []).append(asked.question.id)
        by_id = {asked.question.id: asked for asked in waiting}
        scores = {name: asked.scores for name, asked in by_id.items()}
        scores |= {options_of(name): asked.option_scores for name, asked in by_id.items()}

        def windows() -> Iterator[AskedWindow]:
            for index in sorted(wanted):
                reading = self._reading(index)
                yield reading, [(question, tokens[question]) for question in wanted[index]]
                for question in wanted[index]:
                    if by_id[question].options:
                        yield self._decoder.option_window(reading, question, tokens[question], by_id[question].options)

        for jobs in self._decoder.batches(windows(), least):
            states = {}
            for index in sorted({job.reading.index for job in jobs}):
                states[index] = self._states_of(index, jobs)
                progress.read(index)
            self._decoder.asking.run(self._cache, jobs, states)
            for job in jobs:
                scores[job.question][job.reading.index] = job.answer.search.scores()

    def _reading(self, index: int) -> Reading:
        """A window with its tokens and spans. The last ones are kept."""
        reading = self._readings.get(index)
        if reading is None:
            reading = self._readings[index] = self._decoder.reading(self._document, self._windows, index)
        self._readings.move_to_end(index)
        while len(self._readings) > KEPT_TRIES:
            self._readings.popitem(last=False)
        return reading

    def _states_of(self, index: int, jobs: Sequence[WindowQuestion]) -> States:
        """The keys and values of a window: from memory, from the store, or read now."""
        states = self._states.get(index)
        if states is None:
            tokens = next(job.reading.tokens for job in jobs if job.reading.index == index)
            states = self._store.get(tokens) if self._store else None
            if states is None:
                states = self._decoder.asking.read(self._cache, tokens)
                self.num_computed += 1
                if self._store:
                    self._store.put(tokens, states)
            self._states[index] = states
        self._states.move_to_end(index)
        while len(self._states) > 1 and sum(map(_num_bytes, self._states.values())) > self._kept_bytes:
            self._states.popitem(last=False)
        return states


class AskedQuestion:
    """A question, the windows it asks for in their order, and what they gave.

    Args:
        question: the question.
        num_windows: the number of windows of the document.
        look: how much is read for it. Everything if None.
        prior: how probable each window is by its words. They are equally likely if None.
        options: what a choice is made among. Most questions have none.

    Attributes:
        scores: what the windows that were read so far gave, by their index.
        option_scores: what they gave for the options.
        order: the windows that may be read, the likeliest first.
    """

    def __init__(
        self,
        question: Question,
        num_windows: int,
        look: FirstLook | None,
        prior: WindowPrior | None,
        options: Sequence[str] = (),
    ) -> None:
        self.question, self.options = question, options
        self.scores: dict[int, WindowScores] = {}
        self.option_scores: dict[int, WindowScores] = {}
        self._num_windows, self._look = num_windows, look
        self._prior = None if prior is None else prior.of(question.text)
        order = list(range(num_windows)) if self._prior is None else likeliest_first(self._prior)
        self.order = order if look is None else order[: look.max_windows]

    def next_windows(self) -> Sequence[int]:
        """The windows of the next round."""
        rest = self.order[len(self.scores) :]
        return rest if self._look is None else rest[: self._look.windows_per_round]

    def is_done(self, prediction: Prediction) -> bool:
        """Whether no more is read, given what is said so far."""
        return len(self.scores) == len(self.order) or (
            self._look is not None and prediction.unread <= self._look.max_unread
        )

    def posterior(self) -> SpanPosterior:
        """What the windows that were read so far say."""
        return self._merged(self.scores)

    def option_posterior(self) -> SpanPosterior:
        """What the windows that were read so far say about the options."""
        return self._merged(self.option_scores)

    def _merged(self, by_window: Mapping[int, WindowScores]) -> SpanPosterior:
        order = sorted(by_window)
        scores = [by_window[index] for index in order]
        if self._prior is None:
            return SpanPosterior.merge(scores)
        return SpanPosterior.merge(scores, [float(self._prior[index]) for index in order], self._num_windows)


class _Progress:
    """How many windows are known, of all that may be asked for."""

    def __init__(self, watch: Watch, waiting: Sequence[AskedQuestion]) -> None:
        self._watch, self._known = watch, set[int]()
        self._total = len({index for asked in waiting for index in asked.order})
        watch(0, self._total)

    def read(self, index: int) -> None:
        self._known.add(index)
        self._watch(len(self._known), self._total)


def _num_bytes(states: States) -> int:
    return sum(keys.nbytes + values.nbytes for keys, values in states)
