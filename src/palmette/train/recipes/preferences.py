"""Recipes of the stages that learn from preferences: reward models, DPO, KTO."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from palmette.config.recipes import Recipe
from palmette.config.sections import Above0, DataSection, NonNegative, Section, contradiction


class PreferenceData(DataSection):
    """The preferences to learn from.

    `data/preference.py` says in which form they are.

    Attributes:
        train: sources, read one after the other. The folder of an arena is one, and gives what its votes become.
        kind: the kind of data, which is always the same here.
        on_bad_record: what to do with a broken record. "drop" leaves it out and counts it.
        on_too_long: what to do with a tree of more than train.row_tokens tokens. "drop" leaves it out and counts it. A
            completion is never cut.
        limit_documents: use only the first N records of each source.
    """

    train: Annotated[list[str], Field(min_length=1)]
    kind: Literal["preferences"] = "preferences"
    on_too_long: Literal["error", "drop"] = "error"


class PreferenceRecipe(Recipe):
    """A run that learns from preferences.

    `prompt` and `reasoning` are not used in training. `palmette ask` and `eval squad` use them to put questions to the
    model.

    Attributes:
        data: comparisons, or verdicts.
        learn: the tokens that the loss sees, which is always the whole completion here.
    """

    data: PreferenceData
    learn: Literal["assistant"] = "assistant"


AnyPreferences = TypeVar("AnyPreferences", bound=PreferenceRecipe)


class RewardSection(Section):
    """How a reward model learns.

    `objectives/reward.py` has the formulas.

    Attributes:
        loss: "bradley_terry" compares all pairs of a ranked list, which together count as one. "plackett_luce" takes
            the list as a whole.
        centring: weight of the term that keeps rewards near 0. Only for bradley_terry.
        margins: require the margins that the records state between rewards. Only for bradley_terry.
    """

    loss: Literal["bradley_terry", "plackett_luce"] = "bradley_terry"
    centring: NonNegative = 0.0
    margins: bool = False

    @model_validator(mode="after")
    def _terms_have_their_loss(self) -> RewardSection:
        for name in ("centring", "margins"):
            if self.loss == "plackett_luce" and getattr(self, name):
                raise contradiction(
                    f"reward.{name} has no place in reward.loss = plackett_luce",
                    "Take it out, or use reward.loss: bradley_terry.",
                )
        return self


class RewardRecipe(PreferenceRecipe):
    """A reward model: an adapter and a head."""

    stage: str = "reward"
    reward: RewardSection = RewardSection()


class DpoSection(Section):
    """How DPO learns.

    `objectives/dpo.py` has the formulas.

    Attributes:
        beta: strength of the pull towards the reference model. For ipo it is tau.
        loss: "sigmoid" is DPO, "ipo" is IPO.
        label_smoothing: probability that a preference is the wrong way round. Only for sigmoid.
        length_normalised: use means over tokens as log-ratios, not sums.
        reference: another run or model as the reference. By default it is the model as it was before this run.
    """

    beta: Above0 = 0.1
    loss: Literal["sigmoid", "ipo"] = "sigmoid"
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    length_normalised: bool = False
    reference: str | None = None

    @model_validator(mode="after")
    def _smoothing_has_its_loss(self) -> DpoSection:
        if self.loss == "ipo" and self.label_smoothing:
            raise contradiction(
                f"dpo.label_smoothing = {self.label_smoothing} has no place in dpo.loss = ipo",
                "Take it out, or use dpo.loss: sigmoid.",
            )
        return self


class DpoRecipe(PreferenceRecipe):
    """A run of DPO or IPO."""

    stage: str = "dpo"
    dpo: DpoSection = DpoSection()


class KtoSection(Section):
    """How KTO learns.

    `objectives/kto.py` has the formulas.

    Attributes:
        beta: how soon the loss saturates.
        desirable_weight: weight of a completion that was judged good.
        undesirable_weight: weight of a completion that was judged bad. Number times weight should be about the same on
            both sides.
        pairs: the data are pairs. The better one of each counts as good, the other as bad.
        reference: another run or model as the reference. By default it is the model as it was before this run.
    """

    beta: Above0 = 0.1
    desirable_weight: NonNegative = 1.0
    undesirable_weight: NonNegative = 1.0
    pairs: bool = False
    reference: str | None = None


class KtoRecipe(PreferenceRecipe):
    """A run of KTO."""

    stage: str = "kto"
    kto: KtoSection = KtoSection()
