"""What the runs of a study are measured on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from palmette.config import Positive, Section

# With "-free-N" the model reasons freely for up to N tokens before its answer is opened.
DecoderName = Annotated[str, Field(pattern=r"^(span|greedy|beam|(span|greedy)-free-[1-9][0-9]*)$")]


def _greedy() -> list[DecoderName]:
    return ["greedy"]


class EvaluateSection(Section):
    """What the cells are measured on.

    Attributes:
        data: a source with known answers.
        decoders: how they are asked: "span" (the span decoder), "greedy" or "beam" (plain generation); "span-free-N" and
            "greedy-free-N" let the model reason freely for up to N tokens before its answer is opened.
        limit: use the first so many questions only.
        batch_size: prompts that beam search takes side by side.
        retention: measure what fine-tuning cost elsewhere too (`palmette eval retention`).
        retention_passages, retention_prompts: on so many of the built-in texts and chat prompts, spread over their kinds; all if None.
        retention_tokens: where a chat completion is cut.
    """

    data: str = "builtin:dev"
    decoders: Annotated[list[DecoderName], Field(min_length=1)] = Field(default_factory=_greedy)
    limit: Positive | None = None
    batch_size: Positive = 16
    retention: bool = False
    retention_passages: Positive | None = None
    retention_prompts: Positive | None = None
    retention_tokens: Positive = 48
