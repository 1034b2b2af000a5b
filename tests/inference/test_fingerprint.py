"""What a run depends on outside its folder is checked each time that it is opened."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from palmette.errors import ModelError, RunError
from palmette.inference.answerer import load_answerer
from palmette.inference.fingerprint import TRUST, base_fingerprint, file_hash
from palmette.inference.names import resolve_model, resolve_run
from palmette.inference.reference import reference_fingerprint
from palmette.publish.merge import merge_run
from palmette.train.recipes.preferences import RewardRecipe
from tests.support.runs import train_small_reward_model


@pytest.fixture
def base(tiny_folder: Path, tmp_path: Path) -> Path:
    """A base model that a test may change."""
    return Path(shutil.copytree(tiny_folder, tmp_path / "base"))
