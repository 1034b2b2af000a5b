"""The files of docs/how-to/run-on-a-cluster.md do what the page says, with stand-ins for the cluster's programs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.paths import ROOT

PAGE = (ROOT / "docs/how-to/run-on-a-cluster.md").read_text(encoding="utf-8")
SAYS = 'echo "$RANK/$WORLD_SIZE on GPU $LOCAL_RANK at $MASTER_ADDR:$MASTER_PORT: $*"'
# Eight tasks on two machines, as the header of the script asks for.
SRUN = """for rank in 0 1 2 3 4 5 6 7; do
  SLURM_PROCID=$rank SLURM_LOCALID=$((rank % 4)) SLURM_NTASKS=8 "$@"
done"""


def block(language: str) -> str:
    (found,) = re.findall(f"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)
    return str(found)


def ran(script: str, folder: Path, **programs: str) -> list[str]:
    """What a script prints, where these programs are shell scripts."""
    (folder / "bin").mkdir(exist_ok=True)
    for name, text in programs.items():
        program = folder / "bin" / name
        program.write_text(f"#!/bin/bash\n{text}\n")
        program.chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euc", script], cwd=folder, env={"PATH": path, "SLURM_JOB_NODELIST": "n[1-2]"}, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize(("begun", "words"), [(False, "recipe.yaml"), (True, "--resume runs/mine")])
def test_slurm_starts_every_process_and_continues_a_run(begun: bool, words: str, tmp_path: Path) -> None:
    if begun:
        (tmp_path / "runs/mine").mkdir(parents=True)
        (tmp_path / "runs/mine/manifest.json").write_text("{}")
    lines = ran(block("bash"), tmp_path, palmette=SAYS, srun=SRUN, scontrol="echo n1; echo n2")
    assert lines == [f"{rank}/8 on GPU {rank % 4} at n1:29500: train sft {words}" for rank in range(8)]


@pytest.mark.parametrize(("begun", "words"), [(False, "recipe.yaml"), (True, "--resume mine")])
def test_kubernetes_continues_a_run(begun: bool, words: str, tmp_path: Path) -> None:
    if begun:
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/manifest.json").write_text("{}")
    pod = yaml.safe_load(block("yaml"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    assert container["command"][:2] == ["bash", "-c"]
    assert ran(container["command"][2], tmp_path, palmette='echo "$*"') == [f"train sft {words}"]
