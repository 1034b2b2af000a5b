"""Checkpoints that are complete or not there, even after a kill, on a full disk, or after a power failure.

A checkpoint is written to a hidden folder, with a list of its files and their sizes, and flushed to the disk. Then it
is moved to its place. Whoever resumes takes the newest checkpoint whose listed files are all there.

Of several processes the main one writes. The others wait, so that none goes on before the checkpoint is there.

Not covered: damage that keeps a file's size.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from palmette import processes, run
from palmette.errors import RunError, reason_of
from palmette.model.files import ADAPTER_WEIGHTS
from palmette.progress import Say
from palmette.train.steps.schedule import ScheduledTrainer

WEIGHTS = "model.safetensors"
_FILES = "files.json"  # the list of a checkpoint's files, with the size of each in bytes
# What every checkpoint holds besides weights. It counts for those that were written before they had a list.
_NEEDED = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth")
_STAGING = ".saving-"


def checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints in a folder, oldest first."""
    return [path for path in _all_checkpoints(folder) if not missing_files(path)]


def latest_checkpoint(folder: Path, say: Say | None = None) -> Path | None:
    """The newest complete checkpoint, or None.

    Args:
        folder: the folder of checkpoints, which may not exist.
        say: called with a line about each newer checkpoint that is not complete.
    """
    for path in reversed(_all_checkpoints(folder)):
        missing = missing_files(path)
        if not missing:
            return path
        if say is not None:
            say(f"{path.name} is passed over: {', '.join(missing)} missing or cut off")
    return None


def missing_files(checkpoint: Path) -> list[str]:
    """The names of a checkpoint's files that are missing or cut off. A complete checkpoint has none."""
    try:
        sizes: dict[str, int] = json.loads((checkpoint / _FILES).read_bytes())
        return [name for name, size in sizes.items() if _size(checkpoint / name) != size]
    except FileNotFoundError:
        missing = [name for name in _NEEDED if not _size(checkpoint / name)]
        weights = any(_size(checkpoint / name) for name in (ADAPTER_WEIGHTS, WEIGHTS))
        return missing if weights else [*missing, "weights"]
    except (OSError, ValueError, AttributeError):
        return [_FILES]


def _all_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in a folder, complete or not, oldest first."""
    steps = {path: path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*")}
    return sorted((path for path, step in steps.items() if step.isdecimal()), key=lambda path: int(steps[path]))


def _size(path: Path) -> int | None:
    """The size of a file in bytes. None if there is none."""
    return path.stat().st_size if path.is_file() else None


class SafeCheckpoints(ScheduledTrainer):
    """A `Trainer` whose checkpoints are complete or not there.

    Attributes:
        keep_checkpoints: how many of the newest checkpoints are kept.

    Raises:
        RunError: a checkpoint cannot be written. Those before it survive.
    """

    keep_checkpoints = 2
    _staging: Path | None = None
    _saved_step = -1

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._staging or super()._get_output_dir(trial))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Let the main process write a checkpoint beside its final place, move it there and delete the oldest."""
        if self.state.global_step == self._saved_step:  # by time or by a signal, and again at the epoch's end
            return
        with self.whole(), processes.together():
            if processes.is_main():
                self.write_checkpoint(model)
        self._saved_step = self.state.global_step

    def whole(self) -> contextlib.AbstractContextManager[None]:
        """Within the block, one process can write all that is trained. Every process must enter it."""
        return contextlib.nullcontext()

    def write_checkpoint(self, model: Any) -> None:
        """Write a checkpoint in this process, without waiting for others. Errors as for the class."""
        folder = Path(self.args.output_dir)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for remnant in folder.glob(f"{_STAGING}*"):  # of a process that was killed while it saved
                shutil.rmtree(remnant, ignore_errors=True)
            self._staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=folder))
            super()._save_checkpoint(model, None)
            for written in list(self._staging.iterdir()):
                _complete(written)
                shutil.rmtree(folder / written.name, ignore_errors=True)
                written.rename(folder / written.name)
            run.flush(folder)
        except (OSError, SafetensorError, RuntimeError) as error:
            survivor = latest_checkpoint(folder)
            raise RunError(
                f"cannot write the checkpoint of step {self.state.global_step} to {folder}: {reason_of(error)}",
                f"Free some space, then resume from {survivor.name}." if survivor else "Free some space.",
            ) from error
        finally:
            if self._staging is not None:
                shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None
        for old in checkpoints(folder)[: -self.keep_checkpoints]:
            shutil.rmtree(old)


def _complete(checkpoint: Path) -> None:
    """List the files of a checkpoint with their sizes, and flush them all."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    run.write_json(checkpoint / _FILES, {path.relative_to(checkpoint).as_posix(): _size(path) for path in files})
    run.flush_tree(checkpoint)
