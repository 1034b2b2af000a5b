"""How the runs of a study are measured."""

from __future__ import annotations

from pathlib import Path

from palmette.studies.sweep.recipe import load_sweep
from tests.support.recipes import sweep_file


def test_questions_are_asked_as_an_evaluation_asks_them(tmp_path: Path) -> None:
    """With the span decoder, unless the model writes a rationale first, which that decoder would cut off."""
    cells = {
        "plain": {},
        "pauses": {"reasoning.kind": "pause"},
        "rationale": {"reasoning.kind": "rationale", "prompt.name": "json_think"},
        "chosen": {"reasoning.kind": "rationale", "evaluate.decoders": ["span-free-9"]},
    }
    _, found = load_sweep(sweep_file(tmp_path / "s.yaml", cells=cells))
    asked = {cell.name: cell.decoders for cell in found}
    assert asked == {"plain": ("span",), "pauses": ("span",), "rationale": ("greedy",), "chosen": ("span-free-9",)}
    chosen = {"evaluate": {"decoders": ["beam", "span"]}}
    _, found = load_sweep(sweep_file(tmp_path / "t.yaml", cells={"plain": {}}, **chosen))
    assert found[0].decoders == ("beam", "span")
