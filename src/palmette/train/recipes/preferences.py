"""Recipes of the stages that learn from preferences: reward models, DPO, KTO."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from palmette.config import Above0, DataSection, NonNegative, Recipe, Section, contradiction


class PreferenceData(DataSection):
    """The preferences to learn from (`data/preference.py` says in which form).

    Attributes:
        train: sources, read one after the other.
        on_bad_record: "error", or "drop" to leave bad records out and count them.
        on_too_long: "error", or "drop" to leave trees over train.row_tokens out and count them; a completion is never cut.
        limit_documents: use at most so many records of each source.
    """

    train: Annotated[list[str], Field(min_length=1)]
    kind: Literal["preferences"] = "preferences"


class PreferenceRecipe(Recipe):
    """A run that learns from preferences.

    `prompt` and `reasoning` have no part in training: they are how `palmette ask` and `eval squad` put questions to the model.

    Attributes:
        start: a finished run to start from. Its adapter goes on being trained, so the new run's adapter stands on the same base as the
            run's and needs nothing else; `model`, `lora`, `prompt` and `reasoning` are the run's. A run with all weights trained is the
            base of a new adapter, or goes on with train.method: full.
        data: comparisons, or verdicts.
    """

    start: str | None = None
    data: PreferenceData
    learn: Literal["assistant"] = "assistant"


AnyPreferences = TypeVar("AnyPreferences", bound=PreferenceRecipe)


class RewardSection(Section):
    """How a reward model learns (`objectives/reward.py`).

    Attributes:
        loss: "bradley_terry": all pairs of a ranked list, which together count as one; "plackett_luce": the list as a whole.
        centring: weight of the term that ties rewards to 0; of bradley_terry.
        margins: whether the records' margins are asked of the rewards; of bradley_terry.
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
    """How DPO learns (`objectives/dpo.py`).

    Attributes:
        beta: how dear it is to leave the reference; of ipo, its tau.
        loss: "sigmoid" (DPO) or "ipo".
        label_smoothing: the chance that a verdict is the wrong way round; of sigmoid.
        length_normalised: log-ratios are means over tokens, not sums.
        reference: another run or model as the reference; the model as it was before this run, if None.
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
    """How KTO learns (`objectives/kto.py`).

    Attributes:
        beta: how soon the loss saturates.
        desirable_weight: how much a completion found good counts.
        undesirable_weight: the same of one found bad. Both sides should weigh about the same in all, verdicts times weight.
        pairs: the data are pairs; the better one of each counts as good, the other as bad.
        reference: another run or model as the reference; the model as it was before this run, if None.
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
