"""Preferences of a model's own: several answers to each question, drawn under different settings, ranked by a weighted sum of rewards.

Rewards are verifiable ones, what a reward model says, or both; what people say has a module of its own (`synth/verdicts.py`). The work file
beside the output gets a line for each question as it is done, so a job that was stopped goes on where it was: the draws of a question depend
on the seed and on its place in the data alone, and which questions are sampled and scored together on their places too, so the output
is the same as without the stop, to the last bit. Not covered: two processes at one work file, which must be held by the caller.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palmette import run
from palmette.data.records import Document, Question
from palmette.errors import RunError
from palmette.progress import progress
from palmette.rollouts.rewards import CompletionReward, RewardMixture
from palmette.rollouts.sampling import Rollout, RolloutSampler, Sampling
from palmette.synth.preference_settings import Form
from palmette.tasks.extractive_qa import ExtractiveQa, qa_messages

REASONS = {
    "too few": "fewer than two different answers that came to their end and say anything",
    "tied": "all of its answers have the same reward",
    "near": "the rewards of its best and its worst answer differ by less than min_margin",
    "unjudged": "nobody judged an answer to it",
    "all good": "none of the answers judged was found bad",
    "all bad": "none of the answers judged was found good",
}
MOST_RANKED = 9  # answers of a list; people who rank, too, were given 4 to 9 (Ouyang et al., 2022, 3.5)
_QUESTIONS = 32  # that are sampled together: what a stop may cost
_DIGITS = 6
_ROUNDING = 1e-9  # of weighted sums: a margin of 0.3 is 0.3 or more, though 0.7 - 0.4 is a little less
_DEFAULTS = {"min_margin": 0.0}  # settings of work files that were begun before the setting existed
Line = dict[str, Any]


@dataclass(frozen=True)
class Preferences:
    """What came of a data set.

    Attributes:
        rows: the records, as `palmette.data.preference` reads them.
        counts: questions left out, by the reason, a key of `REASONS`.
        mean_reward: over all answers of all questions; None where no answer has one.
    """

    rows: tuple[Line, ...]
    counts: dict[str, int]
    mean_reward: float | None


@dataclass(frozen=True)
class PreferenceMaker:
    """Draws answers and ranks them.

    Attributes:
        sampler: samples answers.
        task: builds the prompts.
        rewards: what answers are ranked by.
        samplings: the settings, with different seeds.
        num_samples: answers of each question under each setting.
        form: "pairs": the best and the worst answer; "ranked": the first answer at each reward, best first, `MOST_RANKED` of them at most.
        min_margin: answers whose rewards differ by less are not compared.

    Raises:
        DataError: the task writes more into its completions than the model says.
    """

    sampler: RolloutSampler
    task: ExtractiveQa
    rewards: RewardMixture
    samplings: tuple[Sampling, ...]
    num_samples: int
    form: Form = "pairs"
    min_margin: float = 0.0

    def __post_init__(self) -> None:
        self.task.check_one_completion()

    def settings(self) -> dict[str, Any]:
        """What the output depends on, besides the models and the data."""
        return {
            "samplings": [asdict(sampling) for sampling in self.samplings],
            "num_samples": self.num_samples,
            "reward": self.rewards.rule_weights,
            "form": self.form,
            "min_margin": self.min_margin,
            "prompt_sha256": self.task.prompt.sha256,
            "reasoning": asdict(self.task.reasoning),
        }

    def lines(self, questions: Sequence[tuple[int, Document, Question]]) -> Iterator[Line]:
        """What came of each question, in their order.

        Args:
            questions: place in the data, document and question of each.

        Raises:
            PackingError: a prompt does not fit.
            ModelError: a prompt with its completion is longer than the model was made for.
        """
        prompts = [self.task.prompt_tokens(document, question) for _, document, question in questions]
        keys = [place for place, _, _ in questions]
        drawn = [
            list(self.sampler.sample(prompts, self.num_samples, sampling, keys=keys)) for sampling in self.samplings
        ]
        answers_of = [
            [(setting, rollout) for setting, group in enumerate(groups) for rollout in group]
            for groups in zip(*drawn, strict=True)
        ]
        completions = [
            (document, question, rollout.text)
            for (_, document, question), answers in zip(questions, answers_of, strict=True)
            for _, rollout in answers
        ]
        rewards = iter(self.rewards.reward(completions))
        for (_, document, question), answers in zip(questions, answers_of, strict=True):
            samples = [_sample_line(rollout, setting, next(rewards)) for setting, rollout in answers]
            yield self._line(document, question, samples)

    def _line(self, document: Document, question: Question, samples: Sequence[Line]) -> Line:
        line: Line = {"id": question.id, "rewards": [sample["reward"] for sample in samples]}
        fit: dict[str, Line] = {}
        for sample in samples:
            # What was cut did not say that it ends there, and must not be taught to.
            if sample["finish"] != "length" and sample["text"].strip():
                fit.setdefault(sample["text"].strip(), sample)
        first: dict[float, Line] = {}
        for sample in fit.values():
            first.setdefault(sample["reward"], sample)
        ranked = sorted(first.values(), key=lambda sample: -sample["reward"])
        separated = self._separated(ranked)
        if len(separated) < 2:
            return {**line, "reason": "too few" if len(fit) < 2 else "tied" if len(ranked) < 2 else "near"}
        record: Line = {"ranked": [sample["text"] for sample in spread(separated, MOST_RANKED)]}
        if self.form == "pairs":
            best, worst = ranked[0], ranked[-1]
            margin = best["reward"] - worst["reward"]
            record = {"chosen": best["text"], "rejected": worst["text"], "margin": margin}
        prompt = qa_messages(self.task.prompt, document, question)
        return {**line, "row": {"id": question.id, "prompt": prompt, **record, "samples": list(samples)}}

    def _separated(self, ranked: Sequence[Line]) -> list[Line]:
        """Of answers, best first, those that are far enough below the one kept before."""
        kept: list[Line] = []
        for sample in ranked:
            if not kept or kept[-1]["reward"] - sample["reward"] >= self.min_margin - _ROUNDING:
                kept.append(sample)
        return kept


def spread(ranked: Sequence[Line], most: int) -> list[Line]:
    """At most so many (2 or more) of a list, the first and the last among them, evenly spread over it.

    >>> spread([{"reward": reward} for reward in (5, 4, 3, 2, 1)], 3)
    [{'reward': 5}, {'reward': 3}, {'reward': 1}]
    """
    if len(ranked) <= most:
        return list(ranked)
    return [ranked[index * (len(ranked) - 1) // (most - 1)] for index in range(most)]


def make_preferences(
    maker: PreferenceMaker, documents: Sequence[Document], work: Path, about: Mapping[str, Any]
) -> Preferences:
    """Draw and rank answers to every question, or go on with it.

    Args:
        maker: how.
        documents: documents with their questions.
        work: the file that keeps what is done.
        about: what the output depends on besides the maker's settings: the model and the data.

    Raises:
        RunError: the work file belongs to another job, or cannot be read or written.
        PackingError: a prompt does not fit.
        ModelError: a prompt with its completion is longer than the model was made for.
    """
    pairs = ((document, question) for document in documents for question in document.questions)
    questions = [(place, document, question) for place, (document, question) in enumerate(pairs)]
    done = begin_work(work, {**about, **maker.settings()})
    with progress(len(questions), "preferences", "questions") as bar:
        bar.update(len(done))
        for start in range(0, len(questions), _QUESTIONS):
            together = questions[start : start + _QUESTIONS]
            if all(question.id in done for _, _, question in together):
                continue
            # Those of them that are done are drawn again: other sums are rounded where fewer are read together.
            for line in maker.lines(together):
                if line["id"] not in done:
                    run.append_line(work, json.dumps(line, ensure_ascii=False))
                    done[line["id"]] = line
                    bar.update()
    lines = [done[question.id] for _, _, question in questions]
    rewards = [reward for line in lines for reward in line["rewards"]]
    return Preferences(
        tuple(line["row"] for line in lines if "row" in line),
        dict(Counter(line["reason"] for line in lines if "reason" in line)),
        sum(rewards) / len(rewards) if rewards else None,
    )


def begin_work(work: Path, settings: Mapping[str, Any]) -> dict[str, Line]:
    """What a work file holds, by question; a new or empty one gets the settings, an old one is compared with them.

    The file stays the one that it is, since it may be held by a lock: no other is put in its place.

    Raises:
        RunError: it was begun with other settings, or cannot be read or written.
    """
    current = json.loads(json.dumps(settings))
    try:
        raw = work.read_bytes() if work.exists() else b""
        size = raw.rfind(b"\n") + 1  # a last line that was cut off while it was written goes
        head, *lines = [json.loads(line) for line in raw[:size].splitlines()] if size else [{"settings": current}]
        first = json.dumps(head, ensure_ascii=False)
        if not size and not first.encode().startswith(raw):
            raise ValueError("it holds no settings")
        begun = dict(head["settings"])
        done = {line["id"]: line for line in lines}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{work} cannot be read: {error}", "Remove it to start again.") from error
    way_out = "Give the options that it was begun with, or another name for the output. Or remove it to start again."
    run.check_same(begun, current, where=work, way_out=way_out, defaults=_DEFAULTS)
    if size < len(raw):
        try:
            os.truncate(work, size)
        except OSError as error:
            raise RunError(f"cannot write {work}: {error.strerror}", "Choose another output.") from error
    if not size:
        run.append_line(work, first)
    return done


def _sample_line(rollout: Rollout, setting: int, reward: CompletionReward) -> Line:
    """A sample as the output keeps it."""
    own = rollout.sampling_logprobs
    return {
        "text": rollout.text,
        "reward": reward.total,
        "rewards": reward.parts,
        "tokens": rollout.tokens,
        "logprobs": _rounded(rollout.logprobs),
        "sampling_logprobs": None if own is None else _rounded(own),
        "finish": rollout.finish,
        "setting": setting,
        "key": rollout.key,
        "index": rollout.index,
    }


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, _DIGITS) for value in values]
