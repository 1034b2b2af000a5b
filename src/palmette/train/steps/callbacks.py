"""Callbacks of a training run: progress, metrics.jsonl, and checkpoints by time and after signals."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from palmette import processes
from palmette.numbers import readable
from palmette.progress import Say, progress
from palmette.run import append_line, flush, read_log, write_text

TALLY = "tally"  # key of an objective's figures in a trainer's logs


class TrainingInterrupted(Exception):
    """Training was stopped by Ctrl-C or SIGTERM, after a checkpoint was saved.

    Args:
        folder: the run folder.
        step: the optimizer step that was saved.
        command: words of the command that continues the run.
        number: the number of the signal.

    Attributes:
        folder, step: as above.
        exit_code: what the process should end with: 130 after Ctrl-C, 143 after SIGTERM, as shells count.
    """

    def __init__(self, folder: Path, step: int, command: str, number: int = signal.SIGINT) -> None:
        self.folder, self.step, self.exit_code = folder, step, 128 + number
        super().__init__(f"stopped after step {step}. Continue with: palmette {command}")


class MetricsLog(TrainerCallback):  # type: ignore[misc]
    """Appends one JSON line per optimizer step to a file, and draws the progress bar, in the main process.

    Args:
        path: the file. On resuming, lines after the checkpoint's step are dropped, since those steps are taken again.
        questions_per_epoch: number of questions or other units in an epoch, for the rate that is shown.
        unit: name of the unit.
    """

    def __init__(self, path: Path, questions_per_epoch: int, unit: str = "questions") -> None:
        self._path, self._questions, self._unit = path, questions_per_epoch, unit
        self._bar: Any = None
        self._started = self._seconds = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the progress bar, and cut the log back to the step from which training continues."""
        if not processes.is_main():
            return
        lines = read_log(self._path) if self._path.is_file() else []
        remaining = [line for line in lines if line["step"] <= state.global_step]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in remaining))
        self._bar = progress(state.max_steps, "training", "steps", done=state.global_step)
        self._seconds = remaining[-1]["seconds"] if remaining else 0.0
        self._started = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write one line per step, which also has the figures of the objective (`step.Tally`)."""
        if not logs or "loss" not in logs or not processes.is_main():
            return
        seconds = self._seconds + time.monotonic() - self._started
        questions = self._questions * float(state.epoch or 0)
        line = {
            "step": state.global_step,
            "epoch": round(float(state.epoch or 0), 4),
            "loss": float(logs["loss"]),
            **logs.get(TALLY, {}),
            "grad_norm": float(logs["grad_norm"]),
            "learning_rate": float(logs["learning_rate"]),
            "seconds": round(seconds, 2),
            f"{self._unit.replace(' ', '_')}_per_second": round(questions / seconds, 3) if seconds else None,
            "resident_mib": round(psutil.Process().memory_info().rss / 2**20),
        }
        append_line(self._path, json.dumps(line))
        self._bar.set_postfix_str(f"loss {readable(line['loss'])}{self._pace(state)}", refresh=False)
        self._bar.update(state.global_step - self._bar.n)

    def _pace(self, state: TrainerState) -> str:
        """How many units are learned in a second, in words, once the first step is past."""
        steps_per_second = self._bar.per_second
        if steps_per_second is None or not state.epoch:
            return ""
        per_step = self._questions * float(state.epoch) / state.global_step
        return f", {readable(per_step * steps_per_second, 2)} {self._unit}/s"

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Flush the log, whose lines up to a checkpoint are not written again."""
        if processes.is_main() and self._path.is_file():
            flush(self._path)

    def close(self) -> None:
        """Close the progress bar, so that the next line of news begins on a new line."""
        if self._bar is not None:
            self._bar.close()


class SaveByTime(TrainerCallback):  # type: ignore[misc]
    """Saves a checkpoint at the end of a step when enough time has passed since the last one.

    Args:
        minutes: how much time. 0 saves none.
    """

    def __init__(self, minutes: float) -> None:
        self._seconds = 60 * minutes
        self._last = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Start the clock again after any checkpoint."""
        self._last = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Save if it is time, by the clock of any process."""
        if self._seconds and processes.highest(time.monotonic() - self._last >= self._seconds):
            control.should_save = True
        return control


class SaveOnInterrupt(TrainerCallback):  # type: ignore[misc]
    """Turns the first Ctrl-C or SIGTERM into: finish the step, save, stop. A Ctrl-C after that stops at once.

    A second SIGTERM does not, since `timeout` and job schedulers send several.

    Attributes:
        number: the number of the first signal. None while there was none.
    """

    def __init__(self) -> None:
        self.number: int | None = None

    @contextmanager
    def listening(self, say: Say) -> Iterator[None]:
        """Within the block, SIGINT and SIGTERM ask the training loop to stop.

        Python lets only the main thread handle signals. In another thread they keep their effect.

        Args:
            say: called with a line of news after the first signal, or if this is another thread.
        """
        if threading.current_thread() is not threading.main_thread():
            say("training in a thread: Ctrl-C and SIGTERM save no checkpoint, so the latest one counts")
            yield
            return

        def note(number: int, _frame: FrameType | None) -> None:
            first, self.number = self.number is None, self.number or number
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if first:
                with suppress(RuntimeError):  # the signal came while a line was being written
                    say("stopping after this step, with a checkpoint. A further Ctrl-C stops at once, without one")

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                # None stands for a handler that Python did not set, and cannot set again.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Save and stop if a signal came to any process."""
        self.number = processes.highest(self.number or 0) or None
        if self.number is not None:
            control.should_save = control.should_training_stop = True
        return control
