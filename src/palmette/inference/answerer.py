"""Opening what `--model` names: a run folder (base model, adapter, prompt and calibration), or any model; and a decoder for it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from palmette import run
from palmette.config import Recipe, load_run_recipe
from palmette.decode.generation import GenerationDecoder
from palmette.decode.greedy import GreedyDecoder
from palmette.decode.posterior import Decision
from palmette.decode.prediction import Decoder
from palmette.decode.span_decoder import Effort, SpanDecoder
from palmette.errors import RunError
from palmette.inference.calibration import CALIBRATION, Calibration
from palmette.inference.task import recipe_task
from palmette.model.attention import AttentionChoice
from palmette.model.checks import check_model
from palmette.model.heads import has_head
from palmette.model.loading import LoadedModel, dtype_name, load_model, merge_lora, weights_hash
from palmette.model.pause import PAUSE_WEIGHTS, pause_of
from palmette.run import trained_folder
from palmette.tasks.extractive_qa import ExtractiveQa

DecoderName = Literal["span", "greedy", "beam"]
NUM_BEAMS = 10


@dataclass(frozen=True)
class Answerer:
    """A model ready to answer.

    Attributes:
        loaded: the model, its adapter merged into it, and its tokenizer.
        task: what its prompts are made with.
        weights: hash of what was trained, the adapter or the full model; None for a model that no run made.
        calibration: what was fitted for it, if anything was.
    """

    loaded: LoadedModel
    task: ExtractiveQa
    weights: str | None = None
    calibration: Calibration | None = None

    @property
    def decision(self) -> Decision:
        """How it decides: as calibrated, or for what is most probable."""
        return self.calibration.decision if self.calibration else Decision()

    def decoder(
        self,
        name: DecoderName = "span",
        *,
        effort: Effort | None = None,
        batch_size: int = 16,
        loose: bool = False,
        reasoning_limit: int | None = None,
    ) -> Decoder:
        """A decoder for it.

        Args:
            name: "span", or "greedy" or "beam" for plain generation.
            effort: how far the span decoder looks.
            batch_size: prompts that beam search takes side by side.
            loose: whether plain generation reads an answer out of broken JSON.
            reasoning_limit: the model reasons freely for up to so many tokens before its answer is opened; None: as it was trained.

        Raises:
            DataError: there is no place for free reasoning.
            RunError: the model was calibrated for something else.
        """
        if name == "span":
            return self.span_decoder(effort, reasoning_limit=reasoning_limit)
        model, tokenizer = self.loaded.model, self.loaded.tokenizer
        options: dict[str, Any] = {"loose": loose, "reasoning_limit": reasoning_limit}
        if name == "greedy":
            return GreedyDecoder(model, tokenizer, self.task, **options)
        return GenerationDecoder(model, tokenizer, self.task, num_beams=NUM_BEAMS, batch_size=batch_size, **options)

    def span_decoder(
        self, effort: Effort | None = None, decision: Decision | None = None, reasoning_limit: int | None = None
    ) -> SpanDecoder:
        """The span decoder; it decides as calibrated if nothing else is said.

        Raises:
            DataError: there is no place for free reasoning.
            RunError: it was calibrated for something else.
        """
        effort = effort or self.effort()
        if self.calibration and decision is None:
            self.calibration.check_fits({**self.fitted_for(effort), "reasoning_limit": reasoning_limit})
        return SpanDecoder(
            self.loaded.model,
            self.loaded.tokenizer,
            self.task.prompt,
            effort=effort,
            decision=decision or self.decision,
            template=self.task.template,
            reasoning=self.task.reasoning,
            reasoning_limit=reasoning_limit,
        )

    def effort(self, max_words: int | None = None) -> Effort:
        """How far to look: for spans of so many words, or of as many as it was calibrated for."""
        fitted = self.calibration.fitted_for["max_words"] if self.calibration else Effort().max_words
        return Effort(max_words=max_words or fitted)

    def fitted_for(self, effort: Effort) -> dict[str, Any]:
        """What a calibration holds for, besides the kind of documents."""
        return {
            "weights": self.weights,
            "prompt_sha256": self.task.prompt.sha256,
            "reasoning": asdict(self.task.reasoning),
            "dtype": dtype_name(self.loaded.model.dtype),
            "max_words": effort.max_words,
        }


def load_answerer(name: str, attention: AttentionChoice | None = None, *, calibrated: bool = True) -> Answerer:
    """Open a run folder or a model by name.

    Args:
        name: a run folder, a model folder, a GGUF file, or a hub id.
        attention: the attention backend; the run's own, or "auto", if None.
        calibrated: whether to take the run's calibration, if it has one.

    Raises:
        RunError: the run is not finished, or its calibration cannot be read.
        ModelError: the model is missing or cannot honour a tree's mask.
    """
    folder = Path(name).expanduser()
    if not run.is_run(folder):
        loaded = load_model(name, attention=attention or "auto")
        check_model(loaded.model, training=False)
        return Answerer(loaded, recipe_task(Recipe(output=""), loaded.tokenizer))
    recipe, trained = load_run_recipe(folder / run.RECIPE), trained_folder(folder)
    if has_head(trained, "reward"):
        raise RunError(f"{folder} is a reward model, which gives no answers", "Try palmette eval reward.")
    full = trained.name == run.FULL_MODEL
    loaded = load_model(
        str(trained) if full else recipe.model.name,
        adapter=None if full else trained,
        revision=None if full else recipe.model.revision,
        dtype=recipe.model.dtype,
        attention=attention or recipe.model.attention,
        fused=recipe.model.fused,
        quantization=recipe.model.quantization,
        trust_remote_code=recipe.model.trust_remote_code,
        overrides=recipe.model.overrides,
    )
    loaded = merge_lora(loaded)
    check_model(loaded.model, training=False)
    task = recipe_task(recipe, loaded.tokenizer)
    rows = pause_of(loaded.model)
    if (0 if rows is None else len(rows)) < len(set(task.reasoning.pause_tokens)):
        raise RunError(f"{trained} holds no {PAUSE_WEIGHTS} for its pause tokens", "Copy the whole folder of the run.")
    weights = weights_hash(str(trained))
    known = calibrated and (trained / CALIBRATION).is_file()
    calibration = Calibration.read(trained) if known else None
    return Answerer(loaded, task, weights, calibration)
