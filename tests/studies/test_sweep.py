"""Sweeps: cells as asked for, figures that equal the runs' own, nothing done twice, failures that stop nothing."""

from __future__ import annotations

import json
import shutil
import signal
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from palmette.config.recipes import Recipe
from palmette.data.source import read_source
from palmette.errors import DataError, RecipeError
from palmette.evaluate.retention.measure import Settings
from palmette.evaluate.retention.run import retention_of_run
from palmette.inference.answerer import Answerer
from palmette.run import read_log
from palmette.studies.measuring import first_questions
from palmette.studies.sweep.recipe import load_sweep
from palmette.studies.sweep.table import plot_learning_rates
from palmette.studies.tables import CellFigures, Spread
from palmette.train.run import train
from palmette.train.steps.checkpoints import checkpoints
from tests.support.command import palmette
from tests.support.recipes import small_sweep, sweep_file
from tests.support.runs import adapter, assert_same, on_step, quiet


@pytest.fixture(scope="module")
def finished(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of two learning rates with two seeds each."""
    folder = tmp_path_factory.mktemp("sweep")
    vary = {"train.learning_rate": [1e-3, 3e-2]}
    settings = small_sweep(tiny_folder, folder)
    settings["evaluate"]["limit_questions"] = 3
    settings["reference"] = "learning_rate=0.001"
    file = sweep_file(folder / "rates.yaml", vary=vary, seeds=[0, 1], **settings)
    with pytest.MonkeyPatch.context() as patch:
        assert palmette(patch, "sweep", file) == 0
    return folder / "rates"


def test_a_grid_is_every_combination_with_every_seed(tmp_path: Path) -> None:
    vary = {"train.learning_rate": [1e-4, 0.001], "lora.rank": [4, 16]}
    base = {"output": "elsewhere", "train": {"epochs": 3, "learning_rate": 0.5}}
    _, cells = load_sweep(sweep_file(tmp_path / "s.yaml", base=base, vary=vary, seeds=[0, 7]))
    assert [cell.folder.name for cell in cells] == [
        "learning_rate=0.0001_rank=4_seed=0",
        "learning_rate=0.0001_rank=4_seed=7",
        "learning_rate=0.0001_rank=16_seed=0",
        "learning_rate=0.0001_rank=16_seed=7",
        "learning_rate=0.001_rank=4_seed=0",
        "learning_rate=0.001_rank=4_seed=7",
        "learning_rate=0.001_rank=16_seed=0",
        "learning_rate=0.001_rank=16_seed=7",
    ]
    last = cells[-1].recipe
    assert last == Recipe.model_validate(
        {
            "output": str(tmp_path / "s" / "cells" / "learning_rate=0.001_rank=16_seed=7" / "run"),
            "train": {"epochs": 3, "learning_rate": 0.001, "seed": 7},
            "lora": {"rank": 16},
        }
    )


def test_named_cells_and_a_base_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("output: r\ntrain: {learning_rate: 2e-4, seed: 5}\n")
    cells = {"as it is": {}, "all weights": {"train.method": "full", "data.train": ["builtin:train", "builtin:dev"]}}
    sweep, found = load_sweep(sweep_file(tmp_path / "s.yaml", base=str(tmp_path / "base.yaml"), cells=cells))
    assert [cell.recipe.train.method for cell in found] == ["lora", "full"]
    assert found[1].recipe.data.train == ["builtin:train", "builtin:dev"]
    assert {(cell.seed, cell.recipe.train.learning_rate) for cell in found} == {(5, 2e-4)}
    assert len({cell.folder for cell in found}) == 2
    assert not any(" " in cell.folder.name for cell in found)
    assert isinstance(sweep.base, dict)


BAD = {
    "key of the sweep": ({"varry": {}}, "unknown key 'varry'. Did you mean 'vary'"),
    "key of a section": ({"evaluate": {"batch": 3}}, "unknown key 'evaluate.batch'. Did you mean 'batch_size'"),
    "key of an earlier version": (
        {"evaluate": {"limit": 3}},
        "'evaluate.limit' is now called 'evaluate.limit_questions'. Write limit_questions.",
    ),
    "dotted key": (
        {"vary": {"train.learning_rat": [1]}},
        "unknown key 'train.learning_rat'. Did you mean 'learning_rate'",
    ),
    "dotted section": ({"vary": {"lorra.rank": [1]}}, "unknown key 'lorra'. Did you mean 'lora'"),
    "value": ({"vary": {"lora.rank": [4, 0]}}, "cell rank=0: lora.rank = 0"),
    "no values": ({"vary": {"lora.rank": []}}, r"vary.lora\.rank = \[\]"),
    "both": ({"vary": {"lora.rank": [1]}, "cells": {"a": {}}}, "both `vary` and `cells`"),
    "equal values": ({"vary": {"lora.rank": [4, 4]}}, "the cell rank=4_seed=0 stands twice"),
    "equal seeds": ({"seeds": [1, 1]}, "the cell base_seed=1 stands twice"),
    "seed": ({"vary": {"train.seed": [1]}}, "train.seed is not a setting to vary. Use `seeds`"),
    "seed out of bounds": ({"seeds": [-1]}, "train.seed = -1"),
    "output": ({"vary": {"output": ["a"]}}, "output is not a setting to vary"),
    "below a value": (
        {"vary": {"lora.rank.x": [1]}, "base": {"lora": {"rank": 3}}},
        "lora.rank is not a map of settings",
    ),
    "no base": ({"base": "none.yaml"}, r"cannot read the recipe none\.yaml"),
    "no reference": ({"reference": "bse"}, "reference = 'bse' is no cell of the sweep. Cells are: base"),
    "unknown decoder": ({"evaluate": {"decoders": ["greedy-free-0"]}}, r"evaluate\.decoders\.0 = 'greedy-free-0'"),
    "unknown decoder of a cell": ({"cells": {"a": {"evaluate.decoders": ["gredy"]}}}, "cell a, evaluate: decoders.0"),
    "decoders varied": ({"vary": {"evaluate.decoders": [["span"]]}}, "evaluate.decoders is not a setting to vary"),
    "setting of a cell's evaluation": ({"cells": {"a": {"evaluate.data": "x"}}}, "unknown key 'evaluate'"),
    "no decoder": ({"evaluate": {"decoders": []}}, "evaluate.decoders"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_mistakes_are_named_before_anything_runs(tmp_path: Path, case: str) -> None:
    settings, message = BAD[case]
    with pytest.raises(RecipeError, match=message) as caught:
        load_sweep(sweep_file(tmp_path / "s.yaml", **settings))
    assert "\n" not in str(caught.value)


def test_figures_are_those_of_the_runs(finished: Path) -> None:
    """Means and sample standard deviations by numpy, from the files that each run and evaluation left."""
    record = json.loads((finished / "sweep.json").read_text())
    assert [(row["name"], row["decoder"], row["seeds"]) for row in record["cells"]] == [
        (f"learning_rate={rate}", decoder, [0, 1]) for rate in (0.001, 0.03) for decoder in ("greedy", "span")
    ]
    for row in record["cells"]:
        folders = [finished / "cells" / f"{row['name']}_seed={seed}" for seed in (0, 1)]
        metrics = [json.loads((folder / row["decoder"] / "metrics.json").read_text()) for folder in folders]
        logs = [read_log(folder / "run" / "metrics.jsonl") for folder in folders]
        assert all(len(log) == 4 for log in logs)
        wanted = {
            "exact": [m["exact"] for m in metrics],
            "correct_no_answer": [m["correct_no_answer"] for m in metrics],
            "final_loss": [log[-1]["loss"] for log in logs],
            "training_seconds": [log[-1]["seconds"] for log in logs],
        }
        for name, values in wanted.items():
            found = row["spreads"][name]
            assert found["count"] == 2
            np.testing.assert_allclose([found["mean"], found["deviation"]], [np.mean(values), np.std(values, ddof=1)])
        assert metrics[0]["total"] == 3
    losses = [run["measures"]["greedy"]["final_loss"] for run in record["runs"]]
    assert len(set(losses)) == 4


def test_the_page_has_one_line_a_cell_and_one_a_run(finished: Path) -> None:
    page = (finished / "sweep.md").read_text()
    tables, runs = (part.splitlines() for part in page.split("## Every run"))
    answers = "valid JSON | EM | EM of valid JSON | refused, unanswerable | letter for letter, answerable | F1"
    costs = "final loss | training s | answering s"
    headings = [line for line in tables if line.startswith("| train.learning_rate ")]
    assert headings == [
        f"| train.learning_rate | decoder | seeds | {answers} | EM - learning_rate=0.001 |",
        f"| train.learning_rate | decoder | seeds | {costs} |",
    ]
    assert sum(line.startswith("| 0.0") for line in tables) == 8
    assert sum(line.startswith("| learning_rate=") for line in runs) == 8
    assert "sweep.png" in page
    assert (finished / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_finished_is_kept(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def files() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in (finished / "cells").rglob("*")}

    before = files()
    assert palmette(monkeypatch, "sweep", finished.with_suffix(".yaml")) == 0
    assert files() == before


def test_another_decoder_is_asked_without_training_again(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = small_sweep(tiny_folder, tmp_path)
    settings["evaluate"]["decoders"] = ["greedy"]
    assert palmette(monkeypatch, "sweep", sweep_file(tmp_path / "s.yaml", **settings)) == 0
    weights = tmp_path / "s" / "cells" / "base_seed=0" / "run" / "adapter" / "adapter_model.safetensors"
    before = weights.stat().st_mtime_ns
    assert not (tmp_path / "s" / "sweep.png").exists()  # nothing to plot
    settings["evaluate"]["decoders"] = ["greedy", "span"]
    assert palmette(monkeypatch, "sweep", sweep_file(tmp_path / "s.yaml", **settings)) == 0
    rows = json.loads((tmp_path / "s" / "sweep.json").read_text())["cells"]
    assert [row["decoder"] for row in rows] == ["greedy", "span"]
    assert weights.stat().st_mtime_ns == before


def test_what_it_cost_elsewhere_is_measured_and_drawn(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention asked for afterwards: nothing is trained again, each run gets what `eval retention` finds, and EM
    and cost are drawn.
    """
    copied = tmp_path / "rates"
    shutil.copytree(finished, copied)
    settings = yaml.safe_load((copied / "sweep.yaml").read_text())
    settings["evaluate"] |= {"retention": True, "retention_tokens": 2, "retention_passages": 3, "retention_prompts": 4}
    settings["output"] = str(copied)
    file = tmp_path / "again.yaml"
    file.write_text(yaml.safe_dump(settings))
    monkeypatch.setattr("palmette.studies.sweep.runner.train", lambda *_: pytest.fail("trained again"))
    assert palmette(monkeypatch, "sweep", file) == 0
    assert (copied / "forgetting.png").read_bytes()[:4] == b"\x89PNG"
    record = json.loads((copied / "sweep.json").read_text())
    for one in record["runs"]:
        kept = json.loads((copied / "cells" / one["folder"] / "retention.json").read_text())
        assert (kept["passages"], kept["completions"]) == (3, 4)
        assert one["measures"]["greedy"]["kl"] == kept["kl"] >= 0
        assert one["measures"]["span"]["perplexity_ratio"] == kept["perplexity_ratio"] > 0
    gentle, rough = (
        statistics.fmean(
            one["measures"]["greedy"]["kl"] for one in record["runs"] if one["varied"] == {"train.learning_rate": rate}
        )
        for rate in (1e-3, 3e-2)
    )
    assert gentle < rough, "thirty times the learning rate moves a model further"
    run = copied / "cells" / record["runs"][0]["folder"] / "run"
    part = retention_of_run(run, Settings(max_new_tokens=2, num_passages=3, num_prompts=4))
    assert part["kl"] == record["runs"][0]["measures"]["greedy"]["kl"]
    settings["evaluate"] |= {"retention_passages": None, "retention_prompts": None}
    file.write_text(yaml.safe_dump(settings))
    assert palmette(monkeypatch, "sweep", file) == 0
    measured = json.loads((copied / "sweep.json").read_text())["runs"][0]["measures"]["greedy"]
    assert measured["kl"] != part["kl"], "another subset is measured anew"
    out = tmp_path / "direct"
    assert palmette(monkeypatch, "eval", "retention", "--model", run, "--out", out, "--max-new-tokens", 2) == 0
    assert json.loads((out / "retention.json").read_text())["kl"] == measured["kl"]


def test_ctrl_c_in_training_and_in_answering(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Stopped in the first run's second step, then while it is measured; in the end it is the run that nobody
    stopped.
    """
    file = sweep_file(tmp_path / "s.yaml", seeds=[0, 1], **small_sweep(tiny_folder, tmp_path))
    run = tmp_path / "s" / "cells" / "base_seed=0" / "run"
    with monkeypatch.context() as patch:
        on_step(patch, 1, lambda: signal.raise_signal(signal.SIGINT))
        assert palmette(patch, "sweep", file) == 130
    assert f"sweep {file}" in capsys.readouterr().err
    assert [path.name for path in checkpoints(run / "checkpoints")] == ["checkpoint-2"]
    assert "not yet" in (tmp_path / "s" / "sweep.md").read_text()

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("palmette.studies.measuring.evaluate_squad", stop)
        assert palmette(patch, "sweep", file) == 130
    assert (run / "adapter").is_dir()
    assert {path.name for path in run.parent.iterdir()} == {"cell.json", "run"}
    assert palmette(monkeypatch, "sweep", file) == 0
    (cell, _) = load_sweep(file)[1]
    train(cell.recipe.model_copy(update={"output": str(tmp_path / "straight")}), quiet)
    assert_same(adapter(tmp_path / "straight"), adapter(run))


def test_a_failure_is_written_down_and_the_others_go_on(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = small_sweep(tiny_folder, tmp_path)
    settings["base"]["train"] |= {"max_grad_norm": 0.0, "warmup": 0.0}
    cells = {"explodes": {"train.learning_rate": 1e30}, "learns": {"train.learning_rate": 1e-3}}
    file = sweep_file(tmp_path / "s.yaml", cells=cells, **settings)
    assert palmette(monkeypatch, "sweep", file) == 1
    assert "1 of 2 runs finished" in capsys.readouterr().err
    runs = json.loads((tmp_path / "s" / "sweep.json").read_text())["runs"]
    assert [run["error"] is None for run in runs] == [False, True]
    assert "is not finite at step" in runs[0]["error"]
    assert "- failed: explodes_seed=0: " in (tmp_path / "s" / "sweep.md").read_text()
    assert palmette(monkeypatch, "sweep", file) == 1
    assert "is not tried again without --retry-failed" in capsys.readouterr().err
    monkeypatch.setattr(
        "palmette.studies.sweep.runner._train", lambda cell, say: (_ for _ in ()).throw(MemoryError("no room"))
    )
    assert palmette(monkeypatch, "sweep", file, "--retry-failed") == 1
    assert "MemoryError: no room" in capsys.readouterr().err


def test_a_decoder_that_refuses_leaves_the_others_alone(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its row has dashes, its reason stands below the tables, and it is asked again on --retry-failed only."""
    file = sweep_file(tmp_path / "s.yaml", seeds=[0, 1], **small_sweep(tiny_folder, tmp_path))
    asked, real = [], Answerer.decoder

    def refuse(self: Answerer, name: Any, **options: Any) -> Any:
        if name == "span":
            asked.append(name)
            raise DataError("not with this model", "Use another.")
        return real(self, name, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Answerer, "decoder", refuse)
        assert palmette(patch, "sweep", file) == 0
        assert "refused: base_seed=1, span: not with this model. Use another." in capsys.readouterr().err
        assert palmette(patch, "sweep", file) == 0
        assert len(asked) == 2
    page = (tmp_path / "s" / "sweep.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith("| span | 0 |")][:1]
    assert set(line.removeprefix("| span | 0 |").split()) == {"|", "-"}
    assert "- refused: base_seed=0, span: not with this model. Use another." in page
    assert palmette(monkeypatch, "sweep", file, "--retry-failed") == 0
    runs = json.loads((tmp_path / "s" / "sweep.json").read_text())["runs"]
    assert [(sorted(run["measures"]), run["refused"]) for run in runs] == [(["greedy", "span"], {})] * 2


def test_seeds_are_pooled_and_compared_with_the_reference(finished: Path) -> None:
    """EM of the reference is the mean over its answers, and the difference that of the means; by hand from
    answers.jsonl.
    """
    rows = json.loads((finished / "sweep.json").read_text())["cells"]

    def em(name: str, decoder: str) -> float:
        texts = [
            (finished / "cells" / f"{name}_seed={seed}" / decoder / "answers.jsonl").read_text() for seed in (0, 1)
        ]
        return 100 * statistics.fmean(json.loads(line)["exact"] for text in texts for line in text.splitlines())

    assert all(row["difference"] is None for row in rows[:2])
    for row in rows[2:]:
        difference = row["difference"]
        wanted = em("learning_rate=0.03", row["decoder"]) - em("learning_rate=0.001", row["decoder"])
        assert difference["value"] == pytest.approx(wanted)
        assert difference["low"] <= difference["value"] <= difference["high"]
        low, high = row["intervals"]["exact"]
        assert low <= row["spreads"]["exact"]["mean"] <= high


def test_a_setting_that_is_new_had_its_default(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep begun before a setting existed goes on, unless the setting is now something else."""
    copied = tmp_path / "rates"
    shutil.copytree(finished, copied)
    for file in copied.glob("cells/*/cell.json"):
        asked = json.loads(file.read_text())
        assert asked["train"].pop("weight_decay") == 0.0
        # In the form of that time: settings by dotted name, and what it was measured on as a map.
        flat = {name: value for name, value in asked.items() if name == "evaluate" or not isinstance(value, dict)}
        for section in asked.keys() - flat.keys():
            flat |= {f"{section}.{key}": value for key, value in asked[section].items()}
        file.write_text(json.dumps(flat))
    settings = yaml.safe_load((copied / "sweep.yaml").read_text()) | {"output": str(copied)}
    assert palmette(monkeypatch, "sweep", sweep_file(tmp_path / "s.yaml", **settings)) == 0
    settings["base"]["train"]["weight_decay"] = 0.1
    assert palmette(monkeypatch, "sweep", sweep_file(tmp_path / "s.yaml", **settings)) == 2


def test_a_sweep_that_has_changed_is_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = yaml.safe_load(finished.with_suffix(".yaml").read_text())
    settings["base"]["train"]["epochs"] = 3
    assert palmette(monkeypatch, "sweep", sweep_file(tmp_path / "s.yaml", **settings)) == 2
    assert "was begun with train.epochs = 2, and now it is 3" in capsys.readouterr().err
    settings["base"]["train"]["epochs"] = 2
    settings["evaluate"]["limit_questions"] = 1
    assert palmette(monkeypatch, "sweep", sweep_file(tmp_path / "s.yaml", **settings)) == 2
    assert "was begun with evaluate.questions = " in capsys.readouterr().err
    settings["output"] = str(tmp_path)
    assert palmette(monkeypatch, "sweep", sweep_file(tmp_path / "s.yaml", **settings)) == 2
    assert "exists already, and holds no sweep" in capsys.readouterr().err


def test_the_first_questions_of_a_data_set() -> None:
    data = read_source("builtin:dev")
    first, second = (len(document.questions) for document in data.documents[:2])
    for limit, documents in ((1, 1), (first, 1), (first + 1, 2), (first + second, 2)):
        kept = first_questions(data, limit)
        assert (kept.num_questions, len(kept.documents)) == (limit, documents)
        questions = [question for document in data.documents for question in document.questions][:limit]
        assert [question for document in kept.documents for question in document.questions] == questions
    assert first_questions(data, None) is data
    assert first_questions(data, 10**6).num_questions == data.num_questions


def test_only_a_learning_rate_that_varies_is_plotted(tmp_path: Path) -> None:
    def row(rate: float, rank: int) -> CellFigures:
        varied = {"train.learning_rate": rate, "lora.rank": rank}
        return CellFigures("n", varied, rate, "greedy", (0,), {"exact": Spread.of([50.0])})

    assert not plot_learning_rates([row(1e-3, 4), row(1e-3, 8)], tmp_path / "p.png", "t")
    assert not (tmp_path / "p.png").exists()
    assert plot_learning_rates([row(1e-3, 4), row(1e-2, 4), row(1e-3, 8)], tmp_path / "p.png", "t")
