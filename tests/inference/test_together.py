"""Models of one base in one process: they answer as each does alone, whatever else is served."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from palmette.errors import RunError
from palmette.inference.answerer import load_answerer, open_answerer
from palmette.inference.names import resolve_answerer, runs_in
from palmette.inference.together import FEWEST, open_together
from tests.support.serving import Serving, serving
from tests.support.shared import runs_like

TEXT = "The ferry leaves at 7:40 from pier 3, but not in winter. The tower is granite, and white."
QUESTIONS = ["When does the ferry leave?", "What is the tower built of?"]


@pytest.fixture(scope="module")
def runs(sft_run: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return runs_like(sft_run, tmp_path_factory.mktemp("shared"), 3)


def test_they_share_a_base_and_answer_as_each_does_alone(runs: list[Path], tiny_folder: Path) -> None:
    base = resolve_answerer(tiny_folder)
    base = replace(base, section=base.section.model_copy(update={"dtype": "float32"}))
    sources = {**{str(run): resolve_answerer(run) for run in runs}, "base": base}
    names = list(sources)
    expected = {name: open_answerer(source).answer(TEXT, QUESTIONS) for name, source in sources.items()}
    assert len(set(expected.values())) == len(names), "all answer alike, so nothing is shown"
    opened = open_together(sources)
    assert list(opened) == names
    assert len({id(one.answerer.loaded.model) for one in opened.values()}) == 1
    for name in [*names, *reversed(names)]:
        opened[name].place()
        assert opened[name].answerer.answer(TEXT, QUESTIONS) == expected[name]
        alone = open_answerer(sources[name])
        assert opened[name].answerer.fitted_for(alone.effort()) == alone.fitted_for(alone.effort())
        assert opened[name].answerer.loaded.content == alone.loaded.content
        assert opened[name].answerer.loaded.name == alone.loaded.name


def test_few_models_and_other_bases_are_loaded_each_for_itself(
    runs: list[Path], tiny_folder: Path, tokenizer: Any, tmp_path: Path
) -> None:
    """A base of other weights, a base under another attention, and as many of one base as take no less memory."""
    few = open_together({str(run): resolve_answerer(run) for run in runs[: FEWEST - 1]})
    assert len({id(one.answerer.loaded.model) for one in few.values()}) == FEWEST - 1
    assert not any(one.shared for one in few.values())
    other = tmp_path / "other"
    model = load_answerer(str(tiny_folder)).loaded.model
    with_other_weights = {name: value + 0.01 for name, value in model.state_dict().items()}
    model.save_pretrained(other, state_dict=with_other_weights)
    tokenizer.save_pretrained(other)
    opened = open_together({name: resolve_answerer(name) for name in (*map(str, runs), str(other))})
    assert opened[str(runs[0])].shared
    assert not opened[str(other)].shared


def test_an_answer_over_http_does_not_depend_on_what_else_is_served(runs: list[Path]) -> None:
    """Answers, fields and free text of each model, asked in turns, while the replies of others grow."""
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/answers", {"document": TEXT, "questions": QUESTIONS}),
        ("/v1/extract", {"document": TEXT, "schema": {"fields": {"time": QUESTIONS[0]}}}),
        ("/v1/completions", {"prompt": "The ferry", "max_tokens": 40, "temperature": 1, "seed": 5}),
    ]

    def said(served: Serving, name: str, path: str, body: dict[str, Any]) -> str:
        reply = served.client.post(path, json={**body, "model": name}).json()
        return json.dumps([reply.get(key) for key in ("answers", "fields", "choices", "error")])

    names, alone = [run.name for run in runs], {}
    for run in runs:
        with serving({run.name: load_answerer(run)}) as served:
            alone[run.name] = [said(served, run.name, *one) for one in bodies]
    assert len({json.dumps(one) for one in alone.values()}) == len(runs)
    opened = open_together({run.name: resolve_answerer(run) for run in runs})
    assert all(one.shared for one in opened.values())
    with serving(opened) as served, ThreadPoolExecutor(9) as pool:
        waiting = {
            (name, index): pool.submit(said, served, name, *body)
            for _ in range(2)
            for index, body in enumerate(bodies)
            for name in names
        }
        together = {key: one.result() for key, one in waiting.items()}
    for (name, index), got in together.items():
        assert got == alone[name][index]
        assert "null, null, null, {" not in got


def test_runs_in_a_folder_are_those_that_answer(runs: list[Path], reward_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    (folder / "notes").mkdir()
    for run in (runs[0], reward_run):
        (folder / run.name).symlink_to(run)
    found, others = runs_in(folder)
    assert list(found) == [str(folder / runs[0].name)]
    assert len(others) == 1
    assert "reward model" in others[0]
    with pytest.raises(RunError, match=r"no run in .*notes answers questions"):
        runs_in(folder / "notes")
    with pytest.raises(RunError, match="there is no folder"):
        runs_in(folder / "gone")
