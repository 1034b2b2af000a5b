"""Training an encoder's span head, and the encoder with it, on questions about documents.

As in Devlin et al. (2019), "BERT", section 4.3, the loss of a window is the mean of two cross-entropies, over the token
at which the answer begins and the token at which it ends. Both targets are CLS where the window does not hold the whole
answer. The run folder holds encoder.json (the settings), manifest.json, metrics.jsonl and model/. Until it is finished,
it holds checkpoints/ too.
"""

from __future__ import annotations

import contextlib
import json
import math
import shlex
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainingArguments

from palmette import run
from palmette.baselines.encoder import MAX_ANSWER_TOKENS, Encoder, load_encoder
from palmette.baselines.windows import Windowing, encode, learned_positions
from palmette.data.records import DataSet
from palmette.data.source import read_source
from palmette.encoders.names import pad
from palmette.errors import ModelError, RunError, reason_of
from palmette.model.loading import weights_hash
from palmette.progress import Say
from palmette.seeds import derive_seed
from palmette.train.run import hold
from palmette.train.steps.callbacks import MetricsLog, SaveByTime, SaveOnInterrupt, TrainingInterrupted
from palmette.train.steps.checkpoints import SafeCheckpoints, latest_checkpoint
from palmette.train.steps.schedule import FROM_FIRST_STEP, WARMUP, begins_at_zero

SETTINGS = "encoder.json"
_SAVE_EVERY, _SAVE_MINUTES = 500, 10
_CHUNK = 32  # batches that are sorted by length together


@dataclass(frozen=True, slots=True)
class EncoderSettings:
    """The settings of a run.

    Attributes:
        encoder: a folder, a short name, or a hub id.
        train: the data, as for `read_source`.
        limit: use only the first N documents. All of them if None.
        epochs: passes over the windows.
        learning_rate: peak learning rate, after the warm-up. Then it falls linearly to 0.
        batch_size: windows of an optimizer step.
        warmup: share of the steps with a rising learning rate.
        weight_decay: weight decay of AdamW. Biases and norms have none.
        max_tokens, stride: see `Windowing`.
        max_answer_tokens: the longest answer given.
        seed: random seed of the head, the order of the windows, and dropout.
    """

    encoder: str
    train: str
    limit: int | None = None
    epochs: float = 2.0
    learning_rate: float = 5e-5
    batch_size: int = 16
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_tokens: int = 384
    stride: int = 128
    max_answer_tokens: int = MAX_ANSWER_TOKENS
    seed: int = 0

    @property
    def windowing(self) -> Windowing:
        """How documents are split."""
        return Windowing(self.max_tokens, self.stride)

    @classmethod
    def read(cls, folder: Path) -> EncoderSettings:
        """The settings of a run.

        Raises:
            RunError: the folder has no settings that can be read.
        """
        try:
            return cls(**json.loads((folder / SETTINGS).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{folder} is not a run of `palmette baseline encoder`: {reason_of(error)}",
                "Give a folder that it wrote.",
            ) from error


@dataclass(frozen=True)
class _Job:
    settings: EncoderSettings
    data: DataSet
    encoder: Encoder
    examples: list[dict[str, Any]]


def train_encoder(settings: EncoderSettings, folder: Path, say: Say) -> None:
    """Train a span head, and the encoder under it, into a new run folder.

    Args:
        settings: the settings.
        folder: the run folder, which must not exist.
        say: called with lines of news.

    Raises:
        PalmetteError: the data, the encoder or the folder cannot be used.
        TrainingInterrupted: Ctrl-C. `resume_encoder` continues.
    """
    with hold(folder, _resuming(folder)):
        run.check_absent(folder)
        job = _prepare(settings)
        with run.whole_folder(folder) as staging:
            run.write_json(staging / SETTINGS, asdict(settings))
            run.write_json(staging / run.MANIFEST, {**run.environment(), WARMUP: FROM_FIRST_STEP, **_fingerprint(job)})
        _train(job, folder, None, say)


def resume_encoder(folder: Path, say: Say) -> None:
    """Continue a run that was stopped. Arguments and errors are those of `train_encoder`.

    Raises:
        RunError: it is finished, or its data or encoder have changed.
    """
    with hold(folder, _resuming(folder)):
        _resume(folder, say)


def _resuming(folder: Path) -> str:
    """Words of the command that continues a run."""
    return f"baseline encoder --resume {shlex.quote(str(folder))} --data DATA"


def _resume(folder: Path, say: Say) -> None:
    settings = EncoderSettings.read(folder)
    if run.is_finished(folder):
        raise RunError(f"{folder} is finished", f"Evaluate it with --model {shlex.quote(str(folder))}.")
    job = _prepare(settings)
    try:
        manifest = json.loads((folder / run.MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"cannot read the manifest of {folder}: {reason_of(error)}", "Train again in another folder."
        ) from error
    now = _fingerprint(job)
    before = {name: manifest[name] for name in now if name in manifest}
    run.check_same(before, now, where=folder, way_out="Train again in another folder.")
    _train(job, folder, latest_checkpoint(folder / run.CHECKPOINTS, say), say)


def trained_encoder(folder: Path) -> Path:
    """The folder with the weights of a run.

    Raises:
        RunError: the run is not finished.
    """
    if not run.is_finished(folder):
        raise RunError(f"{folder} is not finished", f"Continue it with: palmette {_resuming(folder)}")
    return folder / run.FULL_MODEL


class SpanTrainer(SafeCheckpoints):
    """Trains a span head.

    Args:
        encoder: the encoder.
        args: training arguments.
        examples: windows: their inputs, start_positions and end_positions.
        callbacks: as for `Trainer`.

    Raises:
        ModelError: the loss is not finite.
    """

    def __init__(
        self, encoder: Encoder, args: TrainingArguments, examples: Sequence[dict[str, Any]], callbacks: list[Any]
    ) -> None:
        lengths = [len(example["input_ids"]) for example in examples]
        batches = LengthBatches(lengths, args.per_device_train_batch_size, args.seed)
        self._loader = _WindowLoader(examples, batches, encoder.tokenizer)
        super().__init__(model=encoder.model, args=args, train_dataset=self._loader.dataset, callbacks=callbacks)
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> _WindowLoader:
        """Batches of windows of about the same length."""
        return self._loader

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, **_: Any
    ) -> torch.Tensor:
        """Mean of both cross-entropies over the windows of the batch, in nats.

        Padding is masked, so it does not change the loss.
        """
        assert not return_outputs
        start_B, end_B = inputs.pop("start_positions"), inputs.pop("end_positions")
        out = model(**inputs)
        padding_BT = inputs["attention_mask"] == 0
        losses = [
            torch.nn.functional.cross_entropy(logits_BT.float().masked_fill(padding_BT, -math.inf), target_B)
            for logits_BT, target_B in ((out.start_logits, start_B), (out.end_logits, end_B))
        ]
        loss = (losses[0] + losses[1]) / 2
        if not math.isfinite(float(loss.detach())):
            raise self.exploded("the loss")
        return loss

    def exploded(self, what: str) -> ModelError:
        """The error for a number that is not finite."""
        return ModelError(f"{what} is not finite at step {self.state.global_step}", "Lower --learning-rate.")


class LengthBatches(torch.utils.data.Sampler[list[int]]):
    """Batches of windows of about the same length, in an order that depends on seed and epoch alone.

    All windows are shuffled. The windows of some batches at a time are sorted by length and split into batches. The
    batches are shuffled again.

    Args:
        lengths: tokens of each window.
        batch_size: windows of a batch.
        seed: random seed of the shuffling.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self.batch_size, self._seed, self._epoch = list(lengths), batch_size, seed, 0
        self.drop_last = False

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the batches to come."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        # Epoch and seed are swapped compared with other places. Published figures depend on it.
        generator = torch.Generator().manual_seed(derive_seed(self._epoch, self._seed))
        order = torch.randperm(len(self._lengths), generator=generator).tolist()
        size, batches = self.batch_size, []
        for begin in range(0, len(order), size * _CHUNK):
            chunk = sorted(order[begin : begin + size * _CHUNK], key=self._lengths.__getitem__)
            batches += [chunk[at : at + size] for at in range(0, len(chunk), size)]
        yield from (batches[index] for index in torch.randperm(len(batches), generator=generator).tolist())

    def __len__(self) -> int:
        return math.ceil(len(self._lengths) / self.batch_size)


class _WindowLoader(torch.utils.data.DataLoader[Any]):
    """Loads batches of windows, without touching the global random state."""

    def __init__(self, examples: Sequence[dict[str, Any]], batches: LengthBatches, tokenizer: Any) -> None:
        self._batches = batches
        super().__init__(
            list(examples),  # type: ignore[arg-type]  # a list is a data set
            batch_sampler=batches,
            collate_fn=lambda batch: _collate(batch, tokenizer),
            generator=torch.Generator().manual_seed(0),
        )

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the batches to come."""
        self._batches.set_epoch(epoch)


def _prepare(settings: EncoderSettings) -> _Job:
    data = read_source(settings.train, limit_documents=settings.limit)
    encoder = load_encoder(settings.encoder, settings.windowing, seed=settings.seed)
    examples = []
    for document in data.documents:
        for question, windows in encode(encoder.tokenizer, document, settings.windowing, settings.train):
            positions = learned_positions(windows, question, settings.train)
            for window, (start, end) in zip(windows, positions, strict=True):
                examples.append({**window.inputs, "start_positions": start, "end_positions": end})
    return _Job(settings, data, encoder, examples)


def _fingerprint(job: _Job) -> dict[str, Any]:
    """The data and encoder of a run, and counts of its windows."""
    data, encoder = job.data, job.encoder
    absent = sum(
        example["start_positions"] == example["end_positions"] == _cls(example, encoder) for example in job.examples
    )
    return {
        "seed": job.settings.seed,
        "encoder": {"name": encoder.name, "sha256": weights_hash(encoder.folder), "dtype": "float32"},
        "drawn_at_random": list(encoder.fresh),
        "weights_left_out": list(encoder.left_out),
        "data": [data.describe()],
        "windows": len(job.examples),
        "windows_without_answer": absent,
    }


def _cls(example: dict[str, Any], encoder: Encoder) -> int:
    return int(example["input_ids"].index(encoder.tokenizer.cls_token_id))


def _train(job: _Job, folder: Path, checkpoint: Path | None, say: Say) -> None:
    interrupt, log = SaveOnInterrupt(), MetricsLog(folder / run.METRICS_LOG, job.data.num_questions)
    callbacks = [log, SaveByTime(_SAVE_MINUTES), interrupt]
    trainer = SpanTrainer(job.encoder, _arguments(job.settings, folder), job.examples, callbacks)
    trainer.from_zero = begins_at_zero(folder)
    size = sum(parameter.numel() for parameter in job.encoder.model.parameters())
    say(
        f"training {size:,} parameters on {len(job.examples)} windows of {job.data.num_questions} questions; "
        f"drawn at random: {', '.join(job.encoder.fresh) or 'nothing'}"
    )
    with interrupt.listening(say), contextlib.closing(log):
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if interrupt.number is not None and trainer.state.global_step < trainer.state.max_steps:
        raise TrainingInterrupted(folder, trainer.state.global_step, _resuming(folder), interrupt.number)
    if not all(bool(torch.isfinite(parameter).all()) for parameter in job.encoder.model.parameters()):
        raise trainer.exploded("a weight")
    with run.whole_folder(folder / run.FULL_MODEL) as staging:
        job.encoder.model.eval().save_pretrained(staging)
        job.encoder.tokenizer.save_pretrained(staging)
    shutil.rmtree(folder / run.CHECKPOINTS, ignore_errors=True)


def _arguments(settings: EncoderSettings, folder: Path) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder / run.CHECKPOINTS),
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        lr_scheduler_type="linear",
        warmup_steps=settings.warmup,
        max_grad_norm=1.0,
        seed=settings.seed,
        per_device_train_batch_size=settings.batch_size,
        use_cpu=not torch.cuda.is_available(),  # as the model was loaded: the Trainer would pick a Mac's GPU
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps",
        save_steps=_SAVE_EVERY,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        remove_unused_columns=False,
    )


def _collate(batch: Sequence[dict[str, Any]], tokenizer: Any) -> dict[str, torch.Tensor]:
    """Windows as tensors: (B, T) inputs and (B,) positions."""
    targets = {
        name: torch.tensor([example[name] for example in batch]) for name in ("start_positions", "end_positions")
    }
    inputs = [{name: value for name, value in example.items() if name not in targets} for example in batch]
    return {**pad(inputs, tokenizer), **targets}
