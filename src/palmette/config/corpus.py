"""How the texts of a corpus are cleaned."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from palmette.config.sections import Positive, Section, contradiction

# Filters whose finds can be learned with less weight instead of being dropped.
Weighable = Literal["language", "repetition", "duplicates"]


class CleanSection(Section):
    """Steps that texts go through before they are learned. What they drop is counted, with the reason.

    Attributes:
        boilerplate: take out lines that belong to a web page or to Project Gutenberg and not to the text.
        language: keep only texts in these languages, such as [en, de]. [] keeps all.
        min_words: drop texts of fewer words.
        max_words: drop texts of more words.
        repetition: drop texts that repeat themselves, by the rules of Gopher.
        duplicates: "exact" drops texts that are equal but for case and white space, "near" also those that share most
            of their word 5-grams with an earlier one.
        similarity: share of all word 5-grams of two texts that both have, from which they are near duplicates.
        against: evaluation sets. Texts that share a long run of words with one of their texts are dropped.
        shared_words: how many words such a run has.
        weights: a weight below 1 for what language, repetition, or duplicates (near ones) would drop, such as
            {repetition: 0.3}. These texts are then learned with this weight in the loss of pre-training.
    """

    boilerplate: bool = False
    language: list[str] = Field(default_factory=list)
    min_words: Positive | None = None
    max_words: Positive | None = None
    repetition: bool = False
    duplicates: Literal["none", "exact", "near"] = "exact"
    similarity: Annotated[float, Field(ge=0.5, le=1.0)] = 0.8
    against: list[str] = Field(default_factory=list)
    shared_words: Annotated[int, Field(ge=5)] = 13
    weights: dict[Weighable, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _weighs_what_filters_find(self) -> CleanSection:
        on = {"language": self.language, "repetition": self.repetition, "duplicates": self.duplicates == "near"}
        for name in self.weights:
            if not on[name]:
                asked = "duplicates: near" if name == "duplicates" else name
                raise contradiction(
                    f"clean.weights gives a weight to what {name} finds, but clean.{name} finds nothing",
                    f"Set clean.{asked}, or take the weight out.",
                )
        return self
