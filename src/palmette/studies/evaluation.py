"""The section of a recipe that says how the runs of a study are measured."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from palmette.config.recipes import Recipe
from palmette.config.sections import Positive, Section

# With "-free-N" the model reasons freely for up to N tokens before its answer is opened.
DecoderName = Annotated[str, Field(pattern=r"^(span|greedy|beam|(span|greedy)-free-[1-9][0-9]*)$")]


class EvaluateSection(Section):
    """What the cells are measured on.

    Attributes:
        data: questions with known answers.
        decoders: how the models are asked. "span" is the span decoder, "greedy" and "beam" are plain generation.
            "span-free-N" and "greedy-free-N" let the model reason freely for up to N tokens before it answers. By
            default the span decoder, as in `palmette eval squad`, and "greedy" for models that write a rationale first.
        limit_documents: use only the first N documents.
        limit_questions: use only the first N questions, of those documents.
        batch_size: prompts that beam search takes at the same time.
        retention: also measure what fine-tuning cost on general text and chats, as `palmette eval retention` does.
        retention_passages, retention_prompts: how many of the built-in texts and chat prompts to use, spread over their
            kinds. By default all.
        retention_tokens: longest completion of a chat prompt, in tokens.
    """

    renamed: ClassVar = {"limit": "limit_questions"}

    data: str = "builtin:dev"
    decoders: Annotated[list[DecoderName], Field(min_length=1)] | None = None
    limit_documents: Positive | None = None
    limit_questions: Positive | None = None
    batch_size: Positive = 16
    retention: bool = False
    retention_passages: Positive | None = None
    retention_prompts: Positive | None = None
    retention_tokens: Positive = 48

    def decoders_for(self, recipe: Recipe) -> tuple[str, ...]:
        """The decoders that answer questions with the model of a recipe.

        The span decoder opens the answer by itself, so it would cut off a rationale that the model writes first.
        """
        if self.decoders is not None:
            return tuple(self.decoders)
        return ("greedy",) if recipe.reasoning.kind == "rationale" else ("span",)
