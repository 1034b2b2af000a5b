"""The run folder: the files of a run, each written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import shlex
import shutil
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from palmette.errors import RunError, reason_of

RECIPE, MANIFEST, METRICS_LOG = "recipe.yaml", "manifest.json", "metrics.jsonl"
ADAPTER, FULL_MODEL, CHECKPOINTS, EMBEDDINGS = "adapter", "model", "checkpoints", "embeddings"
_NO_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # of file systems that cannot flush
_VERSIONS = ("palmette", "torch", "transformers", "peft", "accelerate", "tokenizers", "numpy")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all, as `write_bytes` does."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, even if the power fails: to a temporary file beside it, then renamed.

    Raises:
        RunError: the file cannot be written, because the disk is full for example. What stood there before survives.
    """
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        temporary.write_bytes(content)
        flush(temporary)
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {reason_of(error)}", "Free some space, or choose another folder."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Wait until a file, or the list of names of a folder, is on the disk and no longer in the system's memory only.

    A file that was renamed but not flushed may be empty after a power failure. Where a file system cannot do it, for
    folders on Windows for example, nothing happens.

    Raises:
        OSError: it cannot be written. Some file systems notice a full disk only here.
    """
    if path.is_dir() and os.name == "nt":
        return
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _NO_FLUSH:
            raise
    finally:
        os.close(handle)


def flush_tree(folder: Path) -> None:
    """Flush all files and folders in a folder, then the folder itself. Errors as for `flush`."""
    for path in folder.rglob("*"):
        if not path.is_symlink():
            flush(path)
    flush(folder)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file.

    Raises:
        RunError: it cannot be written. Half of it may stand there, which `read_log` passes over.
    """
    try:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
    except OSError as error:
        raise RunError(f"cannot write {path}: {reason_of(error)}", "Free some space, then resume the run.") from error


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON Lines log, without a last line that was cut off while it was written.

    The cut may be inside a character, and a power failure may leave zeros at the end.

    Raises:
        RunError: a line before the last is damaged.
    """
    # As bytes, because a cut character cannot be decoded. Not splitlines, which also splits at other characters.
    lines = [(number, line) for number, line in enumerate(path.read_bytes().split(b"\n"), 1) if line]
    values: list[dict[str, Any]] = []
    for number, line in lines:
        try:
            values.append(json.loads(line.decode("utf-8")))
        except ValueError as error:
            if number == lines[-1][0]:
                break
            raise RunError(f"line {number} of {path} is damaged: {reason_of(error)}", "Remove this line.") from error
    return values


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_json_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSON Lines, one for each row, like `write_text`."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that becomes `path` when the block ends well, and vanishes otherwise.

    All files in it are flushed before it gets its name, so a folder that exists is complete even after a power failure.
    Folder and files get the permissions that the user's umask gives.

    Raises:
        RunError: `path` exists already, or cannot be written.
    """
    check_absent(path)
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # No temporary folder of tempfile's, which is open to its owner alone whatever the umask.
        staging = path.with_name(f".{path.name}-{uuid.uuid4().hex[:12]}")
        staging.mkdir()
    except OSError as error:
        raise RunError(f"cannot create {path}: {reason_of(error)}", "Choose another folder.") from error
    try:
        yield staging
        _follow_umask(staging)
        flush_tree(staging)
        staging.rename(path)
        flush(path.parent)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"cannot write {path}: {reason_of(error)}", "Free some space, or choose another folder."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _follow_umask(folder: Path) -> None:
    """Give the files of a new folder the permissions that the folder got from the umask.

    safetensors writes files for their owner alone, and then nobody else can serve a run.
    """
    mode = folder.stat().st_mode & 0o666
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(mode)


def check_absent(path: Path) -> None:
    """Refuse a folder or file that exists.

    Raises:
        RunError: it exists.
    """
    if path.exists():
        raise RunError(f"{path} exists already", "Choose another name, or remove it first.")


def check_run(path: Path) -> None:
    """Check that a folder is a run folder.

    Raises:
        RunError: it is not there, or has no recipe and manifest.
    """
    missing = [name for name in (RECIPE, MANIFEST) if not (path / name).is_file()]
    if missing:
        raise RunError(
            f"{path} is not a run folder: it has no {missing[0]}", "Give a folder that `palmette train` made."
        )


def stage_of(path: Path) -> str:
    """The stage that made a run folder. It is "sft" where nothing says so, as in the folder of an encoder."""
    manifest = path / MANIFEST
    values = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    return str(values.get("stage", "sft"))


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a run folder.

    Raises:
        RunError: it cannot be read.
    """
    try:
        value = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(
            f"cannot read {path / MANIFEST}: {reason_of(error)}", "Copy the whole folder of the run."
        ) from error
    return value if isinstance(value, dict) else {}


def is_run(path: Path) -> bool:
    """Whether a folder is a run folder."""
    return all((path / name).is_file() for name in (RECIPE, MANIFEST))


def environment() -> dict[str, Any]:
    """Versions and machine, for the manifest."""
    versions = {"python": platform.python_version()}
    for name in _VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "versions": versions,
        "machine": machine(),
    }


def machine() -> dict[str, Any]:
    """The processor, its cores and memory, and the accelerator if there is one."""
    import psutil
    import torch

    info: dict[str, Any] = {"platform": platform.platform(), "processor": _processor(), "cores": os.cpu_count()}
    info["memory_gib"] = round(psutil.virtual_memory().total / 2**30, 1)
    info["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    info["amx"] = torch.cpu._is_amx_tile_supported()
    info["avx512_bf16"] = torch.cpu._is_avx512_bf16_supported()
    info["threads"] = torch.get_num_threads()
    info["gpu"] = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return info


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def check_same(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    *,
    where: str | Path,
    way_out: str,
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Check that something is continued with the settings that it was begun with.

    Settings are compared as JSON holds them, one by one, under dotted names such as `train.epochs`. A setting that one
    side lacks counts as its default, so a setting that a later version of palmette adds does not stop old work. Without
    a default it counts as None.

    Args:
        before: the settings that it was begun with, as read from JSON. Names may be dotted already.
        now: the settings of now.
        where: what was begun, for the message.
        way_out: what to do about a difference, for the message.
        defaults: the value of a setting that nobody named. Settings may be nested or dotted here, too.

    Raises:
        RunError: a setting differs. The message names it and both values.

    >>> before, now = {"train.epochs": 2}, {"train": {"epochs": 2}, "seed": 0}
    >>> check_same(before, now, where="runs/a", way_out="Choose another output.", defaults={"seed": 0})
    """
    was, now_is, unsaid = (_flat(json.loads(json.dumps(values))) for values in (before, now, defaults or {}))
    for key in sorted({*was, *now_is}):
        old, new = (side.get(key, unsaid.get(key)) for side in (was, now_is))
        if old != new and not (_is_parent(key, old, now_is) or _is_parent(key, new, was)):
            raise RunError(f"{where} was begun with {key} = {old!r}, and now it is {new!r}", way_out)


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name. An empty map stays as it is."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, dict) and value else {name: value}
    return flat


def _is_parent(key: str, value: Any, others: Mapping[str, Any]) -> bool:
    """Whether a setting is an empty map that the other side has settings in, which are compared by themselves."""
    return value == {} and any(other.startswith(f"{key}.") for other in others)


def trained_folder(folder: Path) -> Path:
    """Where a run keeps what it trained: its adapter, or its full model.

    Raises:
        RunError: the folder is not a run folder, or the run is not finished.
    """
    check_run(folder)
    if not is_finished(folder):
        way_out = f"Continue it with: palmette train {stage_of(folder)} --resume {shlex.quote(str(folder))}"
        raise RunError(f"{folder} is not finished", way_out)
    return folder / (FULL_MODEL if (folder / FULL_MODEL).is_dir() else ADAPTER)


def is_finished(folder: Path) -> bool:
    """Whether a run folder holds what the run was to train, an adapter or a full model."""
    return any((folder / name).is_dir() for name in (ADAPTER, FULL_MODEL))
