"""Resuming where the compiler is missing or has appeared: refused with a way out, and possible on request."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from palmette.config.recipes import Recipe
from palmette.errors import RunError
from palmette.model.kernels import kernels_for
from palmette.train.run import resume, train
from tests.support.recipes import sft_recipe
from tests.support.runs import adapter, on_step, quiet

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler on this machine")


class PowerCutError(Exception):
    pass


def use(monkeypatch: pytest.MonkeyPatch, **environment: str) -> None:
    """From now on the environment says this about compiling."""
    for name in ("CC", "PALMETTE_COMPILE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    kernels_for.cache_clear()


@pytest.fixture(autouse=True)
def fresh_choice() -> Iterator[None]:
    yield
    kernels_for.cache_clear()


def recipe(tiny_folder: Path, out: Path, dropout: float) -> Recipe:
    changes: dict[str, Any] = {"train__epochs": 1, "train__trees_per_step": 1, "lora__dropout": dropout}
    return sft_recipe(tiny_folder, out, **changes)


def begin(tiny_folder: Path, out: Path, dropout: float = 0.0) -> dict[str, Any]:
    """A run that is cut in step 3, and what its manifest says of the model."""

    def cut() -> None:
        raise PowerCutError

    with pytest.MonkeyPatch.context() as patch:
        on_step(patch, 3, cut)
        with pytest.raises(PowerCutError):
            train(recipe(tiny_folder, out, dropout), quiet)
    model: dict[str, Any] = json.loads((out / "manifest.json").read_text())["model"]
    return model


@pytest.mark.parametrize(
    ("dropout", "layers"), [(0.0, "fused layers with compiled kernels"), (0.1, "stock layers")], ids=["fused", "stock"]
)
def test_a_run_continues_without_the_compiler_on_request(
    dropout: float, layers: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Attention has compiled kernels under stock layers too."""
    use(monkeypatch)
    straight, out = tmp_path / "straight", tmp_path / "cut"
    train(recipe(tiny_folder, straight, dropout), quiet)
    model = begin(tiny_folder, out, dropout)
    assert (model["layers"], model["kernels"]) == (layers, "compiled")
    use(monkeypatch, CC="no-such-compiler")
    with pytest.raises(RunError, match=r"begun with compiled kernels, and now it has torch .*PALMETTE_COMPILE=0"):
        resume(out, quiet)
    use(monkeypatch, PALMETTE_COMPILE="0")
    said: list[str] = []
    resume(out, said.append)
    assert "begun with compiled kernels, continued with torch kernels: the last digits may differ" in said
    wanted = adapter(straight)
    for name, value in adapter(out).items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-2, atol=1e-4)


def test_a_run_begun_without_a_compiler_keeps_torchs_kernels_on_request(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, CC="no-such-compiler")
    assert begin(tiny_folder, tmp_path / "cut")["layers"] == "fused layers with torch kernels"
    use(monkeypatch)
    with pytest.raises(RunError, match="PALMETTE_COMPILE=0"):
        resume(tmp_path / "cut", quiet)
    use(monkeypatch, PALMETTE_COMPILE="0")
    said: list[str] = []
    resume(tmp_path / "cut", said.append)
    assert not [line for line in said if "last digits" in line], "nothing has changed"


def test_a_manifest_of_an_earlier_version_that_names_no_kernels_is_no_obstacle(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch)
    begin(tiny_folder, tmp_path / "cut", dropout=0.1)
    manifest = tmp_path / "cut" / "manifest.json"
    values = json.loads(manifest.read_text())
    del values["model"]["kernels"]
    manifest.write_text(json.dumps(values))
    resume(tmp_path / "cut", quiet)
    assert (tmp_path / "cut" / "adapter").is_dir()
