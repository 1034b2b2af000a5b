"""Commands are imported when they are called; their options and helps follow one convention."""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import typer
from typer.testing import CliRunner

from palmette.cli import main as entry
from palmette.cli.lazy import Command, Group
from palmette.cli.main import COMMANDS, app
from palmette.cli.options import expanded_name, expanded_path
from palmette.errors import DataError, PalmetteError
from palmette.train.stages import STAGES

CLI = Path(entry.__file__).parent


def commands(table: Any = COMMANDS, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Command]]:
    for name, found in table.items():
        if isinstance(found, Group):
            if found.target:
                yield (*words, name), Command(found.target, found.help)
            yield from commands(found.table(), (*words, name))
        else:
            yield (*words, name), found


ALL = dict(commands())
IDS = [" ".join(words) for words in ALL]


def modules_after(*calls: list[str]) -> set[str]:
    """The modules that a new process holds after some calls."""
    code = (
        "import json, sys; from typer.testing import CliRunner; from palmette.cli.main import app\n"
        f"for words in {list(calls)!r}:\n"
        "    assert CliRunner().invoke(app, words).exit_code == 0, words\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_there_are_commands() -> None:
    """Else the tests below would look at nothing."""
    assert len(ALL) >= 25


@pytest.mark.parametrize("command", list(ALL.values()), ids=IDS)
def test_the_help_in_the_table_is_the_first_line_of_the_docstring(command: Command) -> None:
    assert command.help == (inspect.getdoc(command.function()) or "").splitlines()[0]


def test_help_of_the_program_and_of_groups_imports_no_command() -> None:
    """But for `train`, whose commands are rows of the table of stages, and for groups with options of their own."""
    plain = [name for name, found in COMMANDS.items() if isinstance(found, Group) and not found.target]
    groups = [[name, "--help"] for name in plain if name != "train"]
    assert len(groups) >= 3
    held = modules_after(["--help"], *groups)
    ours = {name for name in held if name.startswith("palmette")}
    assert ours == {
        "palmette",
        "palmette.cli",
        "palmette.cli.failures",
        "palmette.cli.lazy",
        "palmette.cli.main",
        "palmette.errors",
    }
    assert not held & {"rich", "pydantic", "yaml", "torch"}


def test_help_of_a_command_imports_its_module_and_nothing_heavy() -> None:
    held = modules_after(["eval", "squad", "--help"])
    assert "palmette.cli.evaluation" in held
    assert not held & {"palmette.cli.synth", "palmette.cli.train", "palmette.evaluate", "rich"}
    everything = modules_after(*([*words, "--help"] for words in ALL))
    assert "palmette.cli.synth" in everything
    assert not everything & {"torch", "transformers", "datasets", "matplotlib", "rich"}


def parameters() -> Iterator[Any]:
    for words, command in ALL.items():
        for name, parameter in inspect.signature(command.function(), eval_str=True).parameters.items():
            if parameter.annotation is not typer.Context:
                yield pytest.param(parameter.annotation, id=f"{' '.join(words)}: {name}")


@pytest.mark.parametrize("annotation", list(parameters()))
def test_parameters_have_helps_that_stand_alone_and_paths_are_expanded(annotation: Any) -> None:
    """Sentences that begin with a capital letter or a file's name and end with a full stop; one parser for all
    paths.
    """
    assert get_origin(annotation) is Annotated
    kind, info = get_args(annotation)
    said = re.sub(r" \[default: [^]]+\]$", "", info.help)
    assert said.endswith(".")
    assert re.match(r"[A-Z]|[\w.]+\.json", said)
    assert not re.match(r"(Its|Of|The same|As) ", said), said
    assert ";" not in said
    kinds = [kind, *get_args(kind)] if get_origin(kind) in (list, Union, types.UnionType) else [kind]
    if any(one is Path or get_args(one) == (Path,) for one in kinds):
        assert info.parser is expanded_path


def test_no_command_expands_a_path_itself() -> None:
    calls = re.compile(r"expanduser|\bexpand\(")
    assert [path.name for path in CLI.glob("*.py") if calls.search(path.read_text())] == ["options.py"]


def test_paths_and_names_are_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded_path("~/run") == tmp_path / "run"
    assert expanded_path("a/~b") == Path("a/~b")
    assert [expanded_name(name) for name in ("~/m.gguf", "USER/NAME", "-", "./x")] == [
        f"{tmp_path}/m.gguf",
        "USER/NAME",
        "-",
        "./x",
    ]
    with pytest.raises(PalmetteError, match="names no home folder"):
        expanded_path("~nobody-of-this-name/run")


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["palmette", *words])
    with pytest.raises(SystemExit) as caught:
        entry.main()
    return int(caught.value.code or 0)


def test_an_expanded_path_reaches_the_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert call(monkeypatch, "report", "~/none") == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (DataError("it is bad", "Fix it."), 2, "error: it is bad. Fix it.\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
    ],
    ids=["mistake", "Ctrl-C"],
)
def test_a_failure_is_one_line_and_an_exit_code(
    raised: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise raised

    monkeypatch.setattr(entry, "app", fails)
    assert call(monkeypatch) == code
    assert capsys.readouterr().err == said


def test_waiting_threads_soon_sleep_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "17")
    assert call(monkeypatch, "--version") == 0
    assert os.environ["GOMP_SPINCOUNT"] == "17"
    monkeypatch.delenv("GOMP_SPINCOUNT")
    assert call(monkeypatch, "--version") == 0
    assert os.environ["GOMP_SPINCOUNT"] == "3000"


def test_help_has_colours_in_a_terminal_only() -> None:
    plain, coloured = (CliRunner().invoke(app, ["eval", "--help"], color=color).output for color in (False, True))
    assert "\x1b[" not in plain
    assert "\x1b[36msquad\x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


def test_hidden_commands_work_and_are_not_listed() -> None:
    assert "rlhf" not in CliRunner().invoke(app, ["train", "--help"]).output
    assert CliRunner().invoke(app, ["train", "rlhf", "--help"]).exit_code == 0


def test_each_stage_has_a_command() -> None:
    shown = CliRunner().invoke(app, ["train", "--help"]).output
    assert [re.search(rf"^  {name} ", shown, re.MULTILINE) is not None for name in STAGES] == [True] * len(STAGES)


def help_at_80_columns(*words: str) -> str:
    return str(CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}, terminal_width=80).output)


def test_help_is_grouped_and_begins_with_ask() -> None:
    shown = help_at_80_columns()
    headings = re.findall(r"^(\w[\w ]*):$", shown, flags=re.MULTILINE)
    assert headings == ["Answer", "Train", "Measure", "Judge", "Make data", "Publish", "Options"]
    assert re.search(r"^Answer:\n  ask ", shown, flags=re.MULTILINE)
    assert re.findall(r"^  ([a-z][\w-]*) ", shown, flags=re.MULTILINE) == list(COMMANDS)


def test_each_command_has_one_line_in_the_help_at_80_columns() -> None:
    lines = help_at_80_columns().splitlines()
    assert max(map(len, lines)) <= 80
    for name, found in COMMANDS.items():
        assert f"  {name.ljust(max(map(len, COMMANDS)))}  {found.help}" in lines


COMPLETIONS = {
    "palmette tr": ["train"],
    "palmette train ": list(STAGES),
    "palmette eval sq": ["squad"],
    "palmette eval squad --dat": ["--data"],
    "palmette train rl": [],
}


@pytest.mark.parametrize("line", COMPLETIONS)
def test_the_shell_completes_commands_and_options_and_nothing_heavy_is_imported(line: str) -> None:
    code = (
        "import sys; sys.argv = ['palmette']\n"
        "from palmette.cli.main import app\n"
        "try:\n    app(prog_name='palmette')\n"
        "finally:\n    print(sorted({'torch', 'transformers', 'datasets'} & set(sys.modules)), file=sys.stderr)"
    )
    words = line.split(" ")
    asked = {"_PALMETTE_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert done.stdout.split() == COMPLETIONS[line]
    assert done.stderr == "[]\n"


def test_completion_of_the_programs_commands_imports_no_command() -> None:
    """A shell asks at each press of a key."""
    code = (
        "import sys; sys.argv = ['palmette']\n"
        "from palmette.cli.main import app\n"
        "try:\n    app(prog_name='palmette')\n"
        "finally:\n    print(sorted(name for name in sys.modules if name.startswith('palmette.')), file=sys.stderr)"
    )
    asked = {"_PALMETTE_COMPLETE": "complete_bash", "COMP_WORDS": "palmette ", "COMP_CWORD": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    assert done.stdout.split() == list(COMMANDS)
    held = ["palmette.cli", "palmette.cli.failures", "palmette.cli.lazy", "palmette.cli.main", "palmette.errors"]
    assert done.stderr == f"{held}\n"
