"""Settings of preferences: contradictions are refused, and the command has every one of them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any

import pytest

from palmette.cli.make.synth import synth_preferences
from palmette.config.recipes import read_section
from palmette.errors import RecipeError
from palmette.synth.preference_settings import PreferenceSettings
from palmette.tasks.rewards import parse_weights

SETTINGS = {"data": "builtin:train", "model": "m"}


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing ranks": ({"reward": {}}, "no reward and no reward_model"),
    "no model": ({"model": None}, "no model, and there are no verdicts"),
    "weight of nothing": ({"reward_model_weight": 2.0}, "no meaning without a reward_model"),
    "one answer": ({"samples": 1, "temperatures": [1.0]}, "nothing to compare"),
    "verdicts and a reward model": (
        {"verdicts": "v", "reward_model": "r"},
        "reward_model = 'r' has no meaning with verdicts",
    ),
    "verdicts and rewards": ({"verdicts": "v", "reward": {"exact": 1.0}}, "reward = .* has no meaning with verdicts"),
    "verdicts and lists": ({"verdicts": "v", "form": "ranked"}, "form = 'ranked' has no meaning"),
    "verdicts and draws": ({"verdicts": "v", "temperatures": [0.5]}, "temperatures = .* has no meaning"),
    "out of bounds": ({"min_margin": -1.0}, "min_margin = -1.0"),
    "negative weight": ({"reward": {"f1": -1.0}}, "reward.f1 = -1.0"),
    "unknown": ({"sampels": 3}, "Did you mean 'samples'"),
}


@pytest.mark.parametrize("case", sorted(CONTRADICTIONS))
def test_settings_that_contradict_each_other_are_refused(case: str) -> None:
    changes, message = CONTRADICTIONS[case]
    with pytest.raises(RecipeError, match=message):
        read_section(PreferenceSettings, {**SETTINGS, **changes}, "here")


def test_settings_are_those_of_the_command() -> None:
    """The same names and defaults, so that a recipe and a command mean the same."""
    settings = read_section(PreferenceSettings, SETTINGS, "here")
    options = {name: one.default for name, one in inspect.signature(synth_preferences).parameters.items()}
    assert options.pop("temperature") is None
    assert options.pop("against") is None
    options["limit_documents"] = options.pop("limit")
    assert parse_weights(options.pop("reward")) == settings.reward == {"f1": 1.0, "valid_json": 0.2}
    assert settings.temperatures == [0.7, 1.0, 1.3]
    shared = options.keys() & PreferenceSettings.model_fields.keys() - {"data", "model"}
    assert {name: options[name] for name in shared} == {name: getattr(settings, name) for name in shared}
    assert PreferenceSettings.model_fields.keys() - options.keys() == {"temperatures", "reward", "against"}
    read_section(PreferenceSettings, {"data": "d", "model": "m", "reward": {}, "reward_model": "r"}, "here")


def test_settings_need_no_torch() -> None:
    code = (
        "import sys; import palmette.synth.preference_settings; assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
