"""A sampler that says what it is told to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from palmette.data.records import Answer, Document, Question
from palmette.rollouts.sampling import Rollout, Sampling

DOCUMENT = Document(
    "d",
    "The ferry leaves at 7:40 from pier 3.",
    (Question("when", "When?", (Answer("at 7:40", 17),)), Question("who", "Who?"), Question("where", "Where?")),
)
RIGHT, HALF, WRONG, NONE = (json.dumps({"answer": text}) for text in ("at 7:40", "7:40", "pier 3", "?"))


class Script:
    """Says what it is told to, by question and setting; in turn, and again from the beginning where there is no
    more.
    """

    def __init__(self, said: Sequence[Sequence[str]], **_: Any) -> None:
        self.said, self.asked = said, 0

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        num_samples: int,
        sampling: Sampling,
        *,
        keys: Sequence[int] | None = None,
    ) -> Iterator[list[Rollout]]:
        assert keys is not None
        assert len(keys) == len(prompts)
        for key in keys:
            texts = self.said[key % len(self.said)]
            found = []
            for index in range(num_samples):
                text = texts[(index + num_samples * sampling.seed) % len(texts)]
                finish = "length" if text.endswith("...") else "end"
                common = {"text": text, "num_text_tokens": 1, "finish": finish, "sampling": sampling}
                found.append(Rollout((5, 6), (-0.5, -0.25), None, key=key, index=index, **common))
            self.asked += 1
            yield found
