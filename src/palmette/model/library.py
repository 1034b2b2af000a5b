"""The compiled form of `kernels.c`: compiled once per machine, kept in the cache, and loaded only if it can be trusted.

Loading a library runs its code, so a cached file counts only under three conditions. File and folder belong to the
user or to root. Nobody else may write to them. And the file has the content that its name states, by a hash, so a file
that is empty or cut off is compiled again.

Not covered: systems without POSIX owners and modes (Windows), where only the hash is checked.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from palmette.cache import cache_folder, is_trusted, private_folder

_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fopenmp", "-shared", "-fPIC")
_SUFFIX = ".so"


def load_library(compiler: str, defines: Sequence[str], functions: Sequence[str]) -> ctypes.CDLL | None:
    """Load the kernels, and compile them first if the cache holds none that can be trusted.

    Args:
        compiler: path of the C compiler.
        defines: options for the compiler that choose the dtype.
        functions: names that the library must define.

    Returns:
        The library. None if it cannot be compiled or loaded here, which is slower but not wrong.
    """
    try:
        source = resources.files("palmette.model").joinpath("kernels.c").read_bytes()
        command = [compiler, *_FLAGS, *defines]
        key = _key(command, source)
    except (OSError, subprocess.SubprocessError):
        return None
    folder = private_folder(cache_folder() / "kernels")
    for file in [] if folder is None else sorted(folder.glob(f"{key}-*{_SUFFIX}")):
        library = _load(file, functions) if is_trusted(file) and _has_stated_content(file) else None
        if library is not None:
            return library
        with contextlib.suppress(OSError):
            file.unlink()
    try:
        return _compile(command, source, functions, key, folder)
    except (OSError, subprocess.SubprocessError):
        return None


def _key(command: Sequence[str], source: bytes) -> str:
    """A name for what the result depends on: source, command, version of the compiler, and processor."""
    version = subprocess.run([command[0], "--version"], capture_output=True, check=True, timeout=60).stdout
    described = repr((list(command), version, platform.machine(), processor_features())).encode() + source
    return hashlib.sha256(described).hexdigest()[:20]


def _compile(
    command: Sequence[str], source: bytes, functions: Sequence[str], key: str, folder: Path | None
) -> ctypes.CDLL | None:
    """Compile in a folder that only this user may enter, load the result, and move it into the cache if possible."""
    # The system's folder for temporary files serves where the cache cannot, and then nothing is kept.
    writable = folder if folder is not None and os.access(folder, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=".compiling-", dir=writable, ignore_cleanup_errors=True) as name:
        code, compiled = Path(name) / "kernels.c", Path(name) / f"kernels{_SUFFIX}"
        code.write_bytes(source)
        subprocess.run([*command, str(code), "-o", str(compiled), "-lm"], capture_output=True, check=True, timeout=300)
        library = _load(compiled, functions)
        if library is not None and writable is not None:
            compiled.chmod(0o755)
            compiled.replace(writable / f"{key}-{_digest(compiled)}{_SUFFIX}")
        return library


def _load(file: Path, functions: Sequence[str]) -> ctypes.CDLL | None:
    """The library in a file. None if it cannot be loaded, or lacks a function."""
    try:
        library = ctypes.CDLL(str(file))
        return library if all(hasattr(library, name) for name in functions) else None
    except OSError:
        return None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:20]


def _has_stated_content(file: Path) -> bool:
    """Whether the hash in a file's name is that of its content."""
    try:
        return file.stem.rpartition("-")[2] == _digest(file)
    except OSError:
        return False


def processor_features() -> str:
    """The features of the processor, which -march=native compiles for."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
