"""Win rates worked out by hand, and length control of simulated preferences whose slopes are known."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import special

from palmette.cli.measure.win_rates import win_rate_remarks
from palmette.errors import DataError
from palmette.judge.length_control import LengthControl, length_controlled
from palmette.judge.preferences import Preference, read_preferences
from palmette.judge.win_rates import WinRate, WinRates, win_rates


def test_win_rate_error_and_discrete_win_rate() -> None:
    """Shares 1, 0, 0.5 and 0.9, and one unread: mean 0.6. Squared deviations 0.16 + 0.36 + 0.01 + 0.09 = 0.62, so the
    error of the mean is sqrt(0.62 / 3 / 4). Two wins and a draw of four: 62.5 %."""
    shares = [1.0, 0.0, 0.5, 0.9, None]
    (row,) = win_rates([Preference("elm", "fir", str(n), share) for n, share in enumerate(shares)]).rows
    assert row.win_rate == pytest.approx(60.0)
    assert row.standard_error == pytest.approx(100 * (0.62 / 12) ** 0.5)
    assert row.discrete == pytest.approx(62.5)
    assert (row.items, row.unread, row.controlled) == (4, 1, None)


SLOPES = {"short": 1.6, "even": 1.4, "long": 1.2}
STRENGTHS = {"short": 0.3, "even": -0.5, "long": 0.0}
MEAN_LENGTHS = {"short": 700, "even": 1000, "long": 1300}


def simulated(items: int, seed: int = 0) -> tuple[list[Preference], dict[str, float]]:
    """Verdicts drawn from the model with items of equal difficulty, and the true win rates at equal length."""
    generator = np.random.default_rng(seed)
    found = []
    for model, mean in MEAN_LENGTHS.items():
        reference, own = generator.normal(1000, 200, items), generator.normal(mean, 200, items)
        longer = np.round(own) - np.round(reference)
        log_odds = STRENGTHS[model] + SLOPES[model] * np.tanh(longer / longer.std())
        won = generator.random(items) < special.expit(log_odds)
        found += [
            Preference(model, "reference", str(n), float(won[n]), (round(reference[n]), round(own[n])))
            for n in range(items)
        ]
    return found, {model: 100 * float(special.expit(strength)) for model, strength in STRENGTHS.items()}


def test_length_control_finds_the_slopes_and_strengths_of_a_simulation() -> None:
    preferences, true = simulated(2000)
    raw = {row.model: row.win_rate for row in win_rates(preferences, num_samples=0).rows}
    found = length_controlled(preferences, num_samples=60)
    assert abs(raw["short"] - true["short"]) > 20  # the case that length control is for
    for model, held in found.models.items():
        assert held.interval is not None
        assert held.win_rate is not None
        half = (held.interval[1] - held.interval[0]) / 2
        assert abs(held.win_rate - true[model]) < 2 * half, model
        assert half < 12
        assert held.slope == pytest.approx(SLOPES[model], abs=0.35)
    assert found.mean_slope == pytest.approx(1.4, abs=0.3)
    # Every item is as difficult as any other, so what the others' verdicts seem to say of it gets no weight.
    assert abs(found.difficulty) < 0.2


def test_difficulty_is_found_and_leaves_a_model_out_of_its_own() -> None:
    """Half of the items are easy for everybody. Preferences by themselves show which."""
    generator = np.random.default_rng(3)
    easy = np.arange(600) % 2 == 0
    preferences = [
        Preference(
            model, "reference", str(n), float(generator.random() < (0.8 if easy[n] else 0.2)), (100, 100 + n % 7)
        )
        for model in map(str, range(6))
        for n in range(600)
    ]
    assert length_controlled(preferences, num_samples=0).difficulty > 0.4
    alone = [one for one in preferences if one.model == "0"]
    assert length_controlled(alone, num_samples=0).difficulty == pytest.approx(0.0)


def test_models_support_one_another_and_a_model_alone_is_drawn_to_none() -> None:
    """With 40 items a slope is hardly known. Beside 2,000 items of other models it is near theirs."""
    preferences, _ = simulated(2000)
    few = [one for one in preferences if one.model == "even"][:40]
    beside = length_controlled([one for one in preferences if one.model != "even"] + few, num_samples=0)
    assert abs(beside.models["even"].slope - beside.mean_slope) < 0.2


def test_a_model_that_is_always_much_shorter_gets_no_win_rate_at_equal_length() -> None:
    preferences = [Preference("elm", "fir", str(n), n % 2, (1000 + n, 10)) for n in range(200)]
    found = length_controlled(preferences)
    assert (found.models["elm"].win_rate, found.models["elm"].interval, found.models["elm"].near) == (None, None, 0)
    assert win_rates(preferences, num_samples=0).rows[0].win_rate == pytest.approx(50.0)


def test_a_difference_that_never_varies_is_not_an_equal_length() -> None:
    """Outputs that are all 500 characters longer say nothing of equal length. At equal lengths all items do."""
    preferences = [
        Preference(model, "oak", str(n), n % 4 > 0, (1000, 1000 + more))
        for model, more in (("elm", 500), ("fir", 0))
        for n in range(40)
    ]
    found = length_controlled(preferences, num_samples=20).models
    assert (found["elm"].win_rate, found["elm"].interval, found["elm"].near) == (None, None, 0)
    assert found["fir"].near == 40
    assert found["fir"].win_rate is not None
    assert np.isfinite(found["elm"].slope)


def test_a_model_that_never_wins_has_finite_figures() -> None:
    preferences = [Preference("elm", "fir", str(n), 0.0, (100 + n % 9, 104)) for n in range(50)]
    held = length_controlled(preferences, num_samples=10).models["elm"]
    assert held.win_rate is not None
    assert 0 <= held.win_rate < 5


def row(**changes) -> dict:
    given = {"generator_1": "fir", "generator_2": "elm", "instruction": "Why?", "preference": 1.25}
    return {**given, "output_1": "because", "output_2": "so", **changes}


def test_files_of_alpaca_eval(tmp_path: Path) -> None:
    annotations = tmp_path / "annotations.json"
    rows = [row(), row(instruction="How?", preference=None), row(instruction="Who?", preference=0)]
    annotations.write_text(json.dumps(rows), encoding="utf-8")
    table = tmp_path / "table.tsv"
    table.write_text("model\tindex\tlen_output_1\tlen_output_2\tpreference\noak\t3\t10\t20\t1.75\n", encoding="utf-8")
    one, unread, draw = read_preferences([str(annotations)])
    assert one == Preference("elm", "fir", "Why?", 0.25, (7, 2))
    assert (unread.share, draw.share) == (None, 0.5)
    assert read_preferences([str(table)]) == [Preference("oak", "", "3", 0.75, (10, 20))]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([row(preference=2.5)], "row 1: 'preference' is 2.5"),
        ([row(preference="good")], "row 1: 'preference' is 'good'"),
        ([row(output_1=None, len_output_1=float("inf"))], "row 1: 'len_output_1' is inf"),
        ([row(output_2=None, len_output_2=-5)], "row 1: 'len_output_2' is -5"),
        ([row(), row()], "row 2: elm has two preferences"),
        ([row(generator_2=None)], "no model"),
        ([row(), row(generator_1="oak", instruction="How?")], "several references: fir, oak"),
        ([], "holds no preferences"),
        ({"rows": []}, "row 1 has no instruction"),
    ],
)
def test_bad_preferences_are_named(tmp_path: Path, rows: object, said: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_preferences([str(path)])


def test_a_model_without_any_verdict_is_refused() -> None:
    with pytest.raises(DataError, match="none of the 1 verdicts on elm"):
        win_rates([Preference("elm", "fir", "0", None), Preference("oak", "fir", "0", 1.0)])


def test_what_length_is_worth_is_said_in_odds() -> None:
    """One standard deviation is tanh(1) = (e^2 - 1) / (e^2 + 1), so a slope of ln 2 over it doubles the odds."""
    slope = math.log(2.0) * (math.e**2 + 1) / (math.e**2 - 1)
    row = WinRate("elm", 50.0, None, 50.0, None, items=1, unread=0, length=None)
    said = " ".join(win_rate_remarks(WinRates("fir", (row,), LengthControl({}, slope, 0.0, 0))))
    assert "change by a factor of 2.00 if it is longer by one standard deviation" in said
