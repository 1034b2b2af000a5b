"""Preferences from a model's own answers: several answers to each question, ranked by a weighted sum of rewards.

Rewards are verifiable, or scores of a reward model, or both. Verdicts of people have their own module,
`synth/verdicts.py`. The work file beside the output gets a line for each finished question, so a job that was stopped
continues there. The answers to a question depend only on the seed and on its position in the data, and so does the
choice of questions that are sampled together. The output is therefore the same as without the stop, to the last bit.
Not covered: two processes with one work file. The caller must lock it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from palmette.data.records import Document, Question
from palmette.progress import progress
from palmette.rollouts.rewards import CompletionReward, RewardMixture
from palmette.rollouts.sampling import Rollout, RolloutSampler, Sampling
from palmette.synth.preference_settings import Form
from palmette.synth.work import Line, begin_work, keep_line
from palmette.tasks.extractive_qa import ExtractiveQa, qa_messages

REASONS = {
    "too few": "fewer than two different answers that ended and are not empty",
    "tied": "all of its answers have the same reward",
    "near": "the rewards of its best and its worst answer differ by less than min_margin",
    "unjudged": "it has no judged answer",
    "all good": "none of its judged answers is bad",
    "all bad": "none of its judged answers is good",
}
MOST_RANKED = 9  # answers of a list, as people were given 4 to 9 to rank (Ouyang et al., 2022, 3.5)
_QUESTIONS = 32  # questions sampled together, which a stop may lose
_DIGITS = 6
_ROUNDING = 1e-9  # rounding of weighted sums: 0.7 - 0.4 reaches a margin of 0.3, though it is a little less
DEFAULTS = {"min_margin": 0.0, "against": []}  # settings of work files that were begun before the setting existed


@dataclass(frozen=True)
class Preferences:
    """The preferences made from a data set.

    Attributes:
        rows: the records, as `palmette.data.preference` reads them.
        mean_reward: the mean over all answers of all questions. None where no answer has a reward.
        left_out: ids of the questions left out, with the reason.
    """

    rows: tuple[Line, ...]
    mean_reward: float | None
    left_out: dict[str, str]

    @property
    def counts(self) -> dict[str, int]:
        """Questions left out, by the reason, a key of `REASONS`."""
        return dict(Counter(self.left_out.values()))


@dataclass(frozen=True)
class PreferenceMaker:
    """Draws answers and ranks them.

    Attributes:
        sampler: samples answers.
        task: builds the prompts.
        rewards: the rewards that rank answers.
        samplings: the settings, with different seeds.
        num_samples: answers of each question under each setting.
        form: "pairs" for the best and the worst answer, "ranked" for the first answer at each reward, best first. A
            list has at most `MOST_RANKED` answers.
        min_margin: answers whose rewards differ by less are not compared.

    Raises:
        DataError: the task adds tokens to its completions that the model does not write.
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
        """The settings that the output depends on, besides the models and the data."""
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
        """The line of each question, in order.

        Args:
            questions: position in the data, document and question of each.

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
            # A completion that was cut does not end there, and training must not teach that it does.
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
        """Those of the answers, best first, that are at least the margin below the one before."""
        chosen: list[Line] = []
        for sample in ranked:
            if not chosen or chosen[-1]["reward"] - sample["reward"] >= self.min_margin - _ROUNDING:
                chosen.append(sample)
        return chosen


def spread(ranked: Sequence[Line], most: int) -> list[Line]:
    """At most `most` (2 or more) items of a list, evenly chosen, with the first and the last one.

    >>> spread([{"reward": reward} for reward in (5, 4, 3, 2, 1)], 3)
    [{'reward': 5}, {'reward': 3}, {'reward': 1}]
    """
    if len(ranked) <= most:
        return list(ranked)
    return [ranked[index * (len(ranked) - 1) // (most - 1)] for index in range(most)]


def make_preferences(
    maker: PreferenceMaker, documents: Sequence[Document], work: Path, about: Mapping[str, Any]
) -> Preferences:
    """Draw and rank answers to every question, or continue a job that was stopped.

    Args:
        maker: draws and ranks answers.
        documents: documents with their questions.
        work: the work file.
        about: the model and the data, which the output depends on besides the maker's settings.

    Raises:
        RunError: the work file belongs to another job, or cannot be read or written.
        PackingError: a prompt does not fit.
        ModelError: a prompt with its completion is longer than the model was made for.
    """
    pairs = ((document, question) for document in documents for question in document.questions)
    questions = [(place, document, question) for place, (document, question) in enumerate(pairs)]
    done = begin_work(work, {**about, **maker.settings()}, defaults=DEFAULTS)
    with progress(len(questions), "preferences", "questions", done=len(done)) as bar:
        for start in range(0, len(questions), _QUESTIONS):
            together = questions[start : start + _QUESTIONS]
            if all(question.id in done for _, _, question in together):
                continue
            # Finished questions among them are drawn again, since sums round differently where fewer are sampled
            # together.
            for line in maker.lines(together):
                if line["id"] not in done:
                    keep_line(line, work, done)
                    bar.update()
    lines = [done[question.id] for _, _, question in questions]
    rewards = [reward for line in lines for reward in line["rewards"]]
    return Preferences(
        tuple(line["row"] for line in lines if "row" in line),
        sum(rewards) / len(rewards) if rewards else None,
        {line["id"]: line["reason"] for line in lines if "reason" in line},
    )


def _sample_line(rollout: Rollout, setting: int, reward: CompletionReward) -> Line:
    """A sample as a record of the output."""
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
