"""The check of a GPU: it runs through on a CPU with tiny shapes, its oracle sees a fault, and its parts keep apart."""

from __future__ import annotations

import doctest
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from palmette.tree.batch import PackedBatch
from tests.support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[SimpleNamespace]:
    """The check's modules, which import each other as scripts do."""
    before = set(sys.modules)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(f"gpu.{name}") for name in ("attention", "parts")})
    finally:
        sys.path.remove(str(BENCHMARKS))
        for name in set(sys.modules) - before:
            if Path(getattr(sys.modules[name], "__file__", None) or "").is_relative_to(BENCHMARKS):
                del sys.modules[name]


def check(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, str(BENCHMARKS / "gpu_check.py"), *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_all_parts_run_on_a_cpu_with_tiny_shapes(tmp_path: Path) -> None:
    done = check("--tiny", folder=tmp_path)
    assert done.returncode == 0, done.stderr + done.stdout
    parts = {part["name"]: part for part in json.loads((tmp_path / "gpu-check.json").read_text())["parts"]}
    may_skip = {"8B, 4 bits"} | (set() if find_spec("trl") else {"TRL"})
    assert {name for name, part in parts.items() if part["status"] != "ok"} <= may_skip
    rows = {row["what"]: row for part in parts.values() for row in part["rows"]}
    checked = [name for name, row in rows.items() if row["ok"]]
    assert len([name for name in checked if "gradients" in name]) == 12  # 3 sizes and dtypes, 2 backends, 2 ways
    for wanted in ("trees against rows", "float32 beside a CPU", "span decoding"):
        assert any(wanted in name for name in checked)
    for wanted in ("rate", "share of the peak", "trees over rows", "samples of", "peak"):
        assert any(wanted in name and row["value"] > 0 for name, row in rows.items())
    assert done.stdout.count("\n") > len(rows)  # the table has a line for each


def test_without_a_gpu_one_line_says_so(tmp_path: Path) -> None:
    done = check(folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "torch sees no GPU here: give --tiny to try the script on the CPU, or install a build of torch for your GPU"
    ]
    assert not list(tmp_path.iterdir())


def test_the_oracle_sees_a_mask_that_lets_branches_see_each_other(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def causal(batch: PackedBatch) -> torch.Tensor:
        length = batch.token_BT.shape[1]
        return torch.ones(length, length, dtype=torch.bool).tril().expand(len(batch.token_BT), -1, -1)

    monkeypatch.setattr(PackedBatch, "may_attend_BTT", causal)
    rows = {row.what: row for row in bench.attention.compare(16, torch.bfloat16, True)}
    blind = [what for what, row in rows.items() if row.ok]
    assert blind == ["flex, heads of 16, bfloat16: values"]  # its mask is made of blocks, which are right
    assert min(row.value for what, row in rows.items() if what not in blind) > 0.1


def test_examples_in_docstrings(bench: SimpleNamespace) -> None:
    found = doctest.testmod(bench.parts)
    assert (found.failed, found.attempted > 0) == (0, True)


@pytest.fixture
def run(bench: SimpleNamespace) -> Any:
    def run(measure: Any, limit: float = 60.0) -> Any:
        return bench.parts.run_part(bench.parts.Part("a part", limit, measure), True, limit)

    return run


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_part_that_takes_too_long_is_stopped_and_what_it_measured_is_kept(bench: SimpleNamespace, run: Any) -> None:
    def endless(tiny: bool) -> Iterator[Any]:
        yield bench.parts.Row("first", 1.0, "s")
        time.sleep(600)

    started = time.monotonic()
    found = run(endless, 2.0)
    assert time.monotonic() - started < 60
    assert (found.status, found.reason) == ("stopped", "not done after 2 s")
    assert [row.what for row in found.rows] == ["first"]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_faults_stay_in_their_part(bench: SimpleNamespace, run: Any) -> None:
    Row = bench.parts.Row

    def raising() -> Iterator[Any]:
        raise ValueError("no kernel\nand more")
        yield

    def one_case_fails(tiny: bool) -> Any:
        return bench.parts.each([("bad", raising), ("good", lambda: [Row("good", 2.0, "s")])])

    found = run(one_case_fails)
    assert [(row.what, row.value, row.ok) for row in found.rows] == [("bad", None, False), ("good", 2.0, None)]
    assert found.rows[0].beside == "ValueError: no kernel"
    assert (found.status, found.reason) == ("failed", "1 of 2 figures, first: bad")
    assert run(lambda tiny: raising()).reason == "ValueError: no kernel"
    crashed = run(lambda tiny: os._exit(7))
    assert (crashed.status, crashed.reason) == ("failed", "its process ended with 7")

    def skipping(tiny: bool) -> Any:
        raise bench.parts.Skipped("no card")

    assert (run(skipping).status, run(skipping).reason) == ("skipped", "no card")
    wrong = run(lambda tiny: [Row("error", 0.3, "", "limit 0.1", ok=False)])
    assert wrong.status == "failed"
