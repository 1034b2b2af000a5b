"""Other systems, simulated: what Windows lacks, and the GPU of a Mac, which models do not run on."""

from __future__ import annotations

import ctypes
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from accelerate.state import AcceleratorState, PartialState
from safetensors.torch import save_file

from palmette import run
from palmette.baselines import encoder_training
from palmette.model import memory
from palmette.model.loading import load_model
from palmette.train.loop import training_arguments
from tests.support import processes
from tests.support.recipes import sft_recipe

# What Python's documentation says is not there on Windows.
LACKING: dict[str, Any] = {
    "os": (
        *("sysconf", "confstr", "getuid", "geteuid", "getgid", "getegid", "getgroups", "getlogin", "getpgid", "killpg"),
        *("fork", "forkpty", "setsid", "nice", "uname", "getloadavg", "sched_getaffinity", "sched_setaffinity"),
        *("statvfs", "fstatvfs", "mkfifo", "chown", "fchown", "fchmod", "posix_fadvise", "posix_fallocate", "sync"),
        "O_DIRECTORY",
    ),
    "signal": ("SIGKILL", "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "setitimer", "alarm", "pthread_sigmask"),
    "modules": ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "readline", "syslog"),
}


def test_the_machine_is_described_without_sysconf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python on Windows has no os.sysconf. Here both say the same."""
    if hasattr(os, "sysconf"):
        gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        assert run.machine()["memory_gib"] == pytest.approx(gib, abs=0.2)
        monkeypatch.delattr(os, "sysconf")
    assert run.machine()["memory_gib"] == round(psutil.virtual_memory().total / 2**30, 1)


def without_posix(recipe: str) -> list[str]:
    """Train, ask and write predictions where all of that is missing. The result is the names of the run's files."""
    import psutil  # it has code of its own for each system

    assert psutil.virtual_memory().total
    for module, names in ((os, LACKING["os"]), (signal, LACKING["signal"])):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    sys.modules.update(dict.fromkeys(LACKING["modules"]))
    os.environ["PALMETTE_COMPILE"] = "0"  # no compiler is looked for
    import palmette
    from palmette.inference.job import predict_file

    run = palmette.train(palmette.read_recipe(recipe))
    answerer = palmette.load(run.folder)
    answerer.answer("The ferry leaves at 7:40.", ["When does it leave?"])
    predict_file(answerer, str(run.folder.parent / "rows.jsonl"), run.folder.parent / "out.jsonl")
    return sorted(file.name for file in run.folder.iterdir())


def test_a_run_needs_nothing_that_windows_lacks(tiny_folder: Path, tmp_path: Path) -> None:
    """Large libraries are imported before, since they are built for each system."""
    (tmp_path / "rows.jsonl").write_text('{"question": "When?", "context": "At 7:40."}\n')
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(sft_recipe(tiny_folder, tmp_path / "run").model_dump(mode="json")))
    code, files = processes.call(without_posix, str(recipe))
    assert code == 0
    assert {"adapter", "manifest.json", "metrics.jsonl"} <= set(files)
    assert (tmp_path / "out.jsonl").read_text().count("\n") == 1


@pytest.mark.parametrize("error", [TypeError, OSError])
def test_memory_is_left_alone_without_a_c_library(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows there is no library that stands for the process: ctypes.CDLL(None) is a TypeError."""

    def refuse(_: object) -> None:
        raise error("no library")

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    limit = memory.ResidentLimit()
    limit.reached()
    monkeypatch.setattr(memory, "_resident", lambda: 2**50)
    assert not limit.hold()
    assert not memory.keep_freed_memory()


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate sees Apple's GPU, as it does on a Mac."""
    for state in (PartialState, AcceleratorState):
        monkeypatch.setattr(state, "_shared_state", {})
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr("accelerate.state.is_mps_available", lambda *_args, **_options: True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="with CUDA there is no choice to make")
@pytest.mark.usefixtures("mac")
def test_on_a_mac_training_stays_on_the_models_device(tiny_folder: Path, tmp_path: Path) -> None:
    device = load_model(str(tiny_folder)).model.device
    assert PartialState().device.type == "mps", "the Mac is not simulated"
    PartialState._shared_state.clear()
    assert training_arguments(sft_recipe(tiny_folder, tmp_path / "run"), tmp_path, 1).device == device
    PartialState._shared_state.clear()
    settings = encoder_training.EncoderSettings(encoder="any", train="any")
    assert encoder_training._arguments(settings, tmp_path).device == device


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize(
    ("umask", "folder", "file"), [(0o022, 0o755, 0o644), (0o002, 0o775, 0o664), (0o077, 0o700, 0o600)]
)
def test_what_a_run_leaves_follows_the_umask(umask: int, folder: int, file: int, tmp_path: Path) -> None:
    """safetensors writes for the owner alone, whatever the umask."""
    before = os.umask(umask)
    try:
        with run.whole_folder(tmp_path / "runs" / "adapter") as staging:
            (staging / "inner").mkdir()
            save_file({"a": torch.ones(2)}, staging / "inner" / "a.safetensors")
            save_file({"a": torch.ones(2)}, staging / "adapter_model.safetensors")
            (staging / "adapter_config.json").write_text("{}")
    finally:
        os.umask(before)
    entries = [tmp_path / "runs" / "adapter", *(tmp_path / "runs" / "adapter").rglob("*")]
    assert len(entries) == 5
    for entry in entries:
        assert stat.S_IMODE(entry.stat().st_mode) == (folder if entry.is_dir() else file), entry.name
