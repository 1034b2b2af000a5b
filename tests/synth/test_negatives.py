"""The command that writes questions to refuse."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from palmette.cli.main import app
from palmette.data.source import read_source


def test_negatives_are_written_to_be_looked_at(tmp_path: Path) -> None:
    out = tmp_path / "more.json"
    result = CliRunner().invoke(app, ["synth", "negatives", "builtin:dev", "--out", str(out), "--siblings", "1"])
    assert result.exit_code == 0, result.output
    plain, more = read_source("builtin:dev"), read_source(str(out))
    known = {question.id for document in plain.documents for question in document.questions}
    added = [q for document in more.documents for q in document.questions if q.id not in known]
    assert added
    assert not any(question.answers for question in added)
    assert f"{more.num_questions:,} questions in" in result.output
    assert json.loads(out.read_text())["version"] == "v2.0"
    again = CliRunner().invoke(app, ["synth", "negatives", "builtin:dev", "--out", str(out)])
    assert again.exit_code == 1
