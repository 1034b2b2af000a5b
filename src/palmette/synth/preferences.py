"""Preferences of a model's own: several answers to each question, drawn under different settings, ranked by a verifiable reward.

The work file beside the output gets a line for each question as it is done, so a job that was stopped goes on where it was; the draws of a
question depend on the seed and on its place in the data alone, so the output is the same as without the stop. Not covered: rewards from
a reward model or from people; two processes writing one output.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from palmette import run
from palmette.data.records import Document, Question
from palmette.decode.rollouts import Rollout, RolloutSource, Sampling
from palmette.errors import RunError
from palmette.progress import progress
from palmette.tasks.extractive_qa import ExtractiveQa, qa_messages
from palmette.tasks.rewards import QaReward

Form = Literal["pairs", "ranked"]
REASONS = {
    "too few": "fewer than two different answers that came to their end and say anything",
    "tied": "all of its answers have the same reward",
}
_QUESTIONS = 32  # that are sampled together: what a stop may cost
_DIGITS = 6
Line = dict[str, Any]


@dataclass(frozen=True)
class Preferences:
    """What came of a data set.

    Attributes:
        rows: the records, as `palmette.data.preference` reads them.
        counts: questions left out, by the reason, a key of `REASONS`.
        mean_reward: over all answers of all questions; None where there is no question.
    """

    rows: tuple[Line, ...]
    counts: dict[str, int]
    mean_reward: float | None


@dataclass(frozen=True)
class PreferenceMaker:
    """Draws answers and ranks them.

    Attributes:
        source: what samples.
        task: what prompts are made with.
        reward: what ranks.
        samplings: the settings, with different seeds.
        num_samples: answers of each question under each setting.
        form: "pairs": the best and the worst answer; "ranked": the first answer at each reward, best first.

    Raises:
        DataError: the task writes more into its replies than the model says.
    """

    source: RolloutSource
    task: ExtractiveQa
    reward: QaReward
    samplings: tuple[Sampling, ...]
    num_samples: int
    form: Form = "pairs"

    def __post_init__(self) -> None:
        self.task.check_one_reply()

    def settings(self) -> dict[str, Any]:
        """What the output depends on, besides the model and the data."""
        return {
            "samplings": [asdict(sampling) for sampling in self.samplings],
            "num_samples": self.num_samples,
            "reward": dict(self.reward.weights),
            "form": self.form,
            "prompt_sha256": self.task.prompt.sha256,
            "reasoning": asdict(self.task.reasoning),
        }

    def lines(self, asked: Sequence[tuple[int, Document, Question]]) -> Iterator[Line]:
        """What came of each question, in their order.

        Args:
            asked: place in the data, document and question of each.

        Raises:
            PackingError: a prompt does not fit.
            ModelError: a prompt with its reply is longer than the model was made for.
        """
        prompts = [self.task.prompt_tokens(document, question) for _, document, question in asked]
        keys = [place for place, _, _ in asked]
        drawn = [
            list(self.source.sample(prompts, self.num_samples, sampling, keys=keys)) for sampling in self.samplings
        ]
        for (_, document, question), *groups in zip(asked, *drawn, strict=True):
            samples = [
                self._sample(rollout, setting, question) for setting, group in enumerate(groups) for rollout in group
            ]
            yield self._line(document, question, samples)

    def _sample(self, rollout: Rollout, setting: int, question: Question) -> Line:
        parts = self.reward.parts(rollout.text, question)
        own = rollout.sampling_logprobs
        return {
            "text": rollout.text,
            "reward": self.reward.total(parts),
            "rewards": parts,
            "tokens": rollout.tokens,
            "logprobs": _rounded(rollout.logprobs),
            "sampling_logprobs": None if own is None else _rounded(own),
            "finish": rollout.finish,
            "setting": setting,
            "key": rollout.key,
            "index": rollout.index,
        }

    def _line(self, document: Document, question: Question, samples: Sequence[Line]) -> Line:
        rewards = [sample["reward"] for sample in samples]
        line: Line = {"id": question.id, "rewards": rewards}
        fit: dict[str, Line] = {}
        for sample in samples:
            # What was cut did not say that it ends there, and must not be taught to.
            if sample["finish"] != "length" and sample["text"].strip():
                fit.setdefault(sample["text"].strip(), sample)
        first: dict[float, Line] = {}
        for sample in fit.values():
            first.setdefault(sample["reward"], sample)
        if len(fit) < 2 or len(first) < 2:
            return {**line, "reason": "too few" if len(fit) < 2 else "tied"}
        ranked = sorted(first.values(), key=lambda sample: -sample["reward"])
        best, worst = ranked[0], ranked[-1]
        said: Line = {"ranked": [sample["text"] for sample in ranked]}
        if self.form == "pairs":
            margin = best["reward"] - worst["reward"]
            said = {"chosen": best["text"], "rejected": worst["text"], "margin": margin}
        prompt = qa_messages(self.task.prompt, document, question)
        return {**line, "row": {"id": question.id, "prompt": prompt, **said, "samples": list(samples)}}


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
        ModelError: a prompt with its reply is longer than the model was made for.
    """
    pairs = ((document, question) for document in documents for question in document.questions)
    asked = [(place, document, question) for place, (document, question) in enumerate(pairs)]
    done = _begin(work, {**about, **maker.settings()})
    waiting = [one for one in asked if one[2].id not in done]
    with progress(len(asked), "preferences", "questions") as bar:
        bar.update(len(asked) - len(waiting))
        for start in range(0, len(waiting), _QUESTIONS):
            for line in maker.lines(waiting[start : start + _QUESTIONS]):
                run.append_line(work, json.dumps(line, ensure_ascii=False))
                done[line["id"]] = line
                bar.update()
    lines = [done[question.id] for _, _, question in asked]
    rewards = [reward for line in lines for reward in line["rewards"]]
    return Preferences(
        tuple(line["row"] for line in lines if "row" in line),
        dict(Counter(line["reason"] for line in lines if "reason" in line)),
        sum(rewards) / len(rewards) if rewards else None,
    )


def _begin(work: Path, settings: Mapping[str, Any]) -> dict[str, Line]:
    """What the work file holds, by question; a new one gets the settings, an old one is compared with them."""
    now = json.loads(json.dumps(settings))
    if not work.exists():
        run.write_text(work, json.dumps({"settings": now}, ensure_ascii=False) + "\n")
        return {}
    try:
        head, *lines = run.read_log(work)
        begun = head["settings"]
        done = {line["id"]: line for line in lines}
        names = sorted(begun.keys() | now.keys())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{work} cannot be read: {error}", "Remove it to start anew.") from error
    for name in names:
        if begun.get(name) != now.get(name):
            raise RunError(
                f"{work} was begun with {name} = {begun.get(name)!r}, not {now.get(name)!r}",
                "Give the options that it was begun with, or another name for the output; or remove it to start anew.",
            )
    # A last line that was cut off while it was written goes.
    run.write_text(work, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (head, *lines)))
    return done


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, _DIGITS) for value in values]
