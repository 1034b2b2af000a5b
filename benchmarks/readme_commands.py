"""Runs the commands of README.md's section "Every command, in order" in an empty folder, without the hub.

It prints each with the seconds that it took, as a user waits for it, and ends with an error at the first that fails.

    python benchmarks/readme_commands.py
    python benchmarks/readme_commands.py --quickstart runs/quickstart   # take this finished run instead of making one
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
HEADING = "## Every command, in order"


def commands(text: str) -> list[str]:
    """The commands of the section, as they are typed, without the comments after them."""
    _, _, rest = text.partition(HEADING)
    section = rest.partition("\n## ")[0]
    lines = re.findall(r"^ {4}(\S.*)$", section, flags=re.MULTILINE)
    return [re.sub(r"\s+# .*$", "", line) for line in lines]


def run(command: str, folder: Path) -> float:
    """Run a command in a folder. The result is its seconds.

    Raises:
        SystemExit: it failed.
    """
    called = re.sub(r"(^|\| )palmette ", rf"\1{sys.executable} -m palmette ", command)
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    started = time.monotonic()
    done = subprocess.run(called, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise SystemExit(f"{command}\nended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return seconds


def main() -> None:
    """Run all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quickstart", type=Path, help="a finished run to copy, instead of `palmette quickstart`")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for command in commands(README.read_text(encoding="utf-8")):
            if command == "palmette quickstart" and options.quickstart:
                shutil.copytree(options.quickstart, folder / "runs" / "quickstart")
                continue
            print(f"{run(command, folder):6.1f} s  {command}", flush=True)


if __name__ == "__main__":
    main()
