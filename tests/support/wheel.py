"""Whether a wheel holds the whole package, data files and weights too: `python -m tests.support.wheel WHEEL`."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Iterable
from pathlib import Path

from tests.support.paths import ROOT

_SOURCE = "src/"


def tracked(root: Path = ROOT) -> list[str]:
    """The files of the package that git knows, as they are called in a wheel."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", _SOURCE], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    return [name.removeprefix(_SOURCE) for name in listed.split("\0") if name]


def differences(wheel: Path, expected: Iterable[str]) -> list[str]:
    """What a wheel lacks, what it has in excess, and which files are empty there, a line each."""
    with zipfile.ZipFile(wheel) as opened:
        size_of = {one.filename: one.file_size for one in opened.infolist()}
    wanted = set(expected)
    found = {name for name in size_of if ".dist-info/" not in name}
    lines = [f"lacks {name}" for name in sorted(wanted - found)]
    lines += [f"has {name}, which git does not know" for name in sorted(found - wanted)]
    weights = [name for name in sorted(wanted & found) if name.endswith(".safetensors")]
    return lines + [f"has no weights in {name}" for name in weights if size_of[name] < 1_000_000]


def main(wheels: list[str]) -> int:
    """Check wheels, and say what is wrong with them."""
    if not wheels:
        print("usage: python -m tests.support.wheel WHEEL ...", file=sys.stderr)
        return 2
    expected, failed = tracked(), 0
    for wheel in wheels:
        lines = differences(Path(wheel), expected)
        print("\n".join(f"{wheel} {line}" for line in lines) or f"{wheel} holds all {len(expected)} files")
        failed += bool(lines)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
