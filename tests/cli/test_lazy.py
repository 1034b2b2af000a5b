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
from palmette.cli.options import Answering, expanded, expanded_name, expanded_path, read_answering
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


def test_files_that_are_missing_or_bad_are_refused_before_torch_is_imported(tmp_path: Path) -> None:
    """Importing it takes seconds. The commands run in one process, so the last line speaks for all of them."""
    recipe = tmp_path / "sft.yaml"
    recipe.write_text("output: run\ndata: {train: [none.json]}\n")
    rows = tmp_path / "none.jsonl"  # it exists, and its first row is bad
    rows.write_text('{"question": "When?"}\n')
    calls = [
        ["predict", "gone-none.jsonl", "out.jsonl"],
        ["predict", str(recipe), str(recipe), "--question", "When?"],
        ["eval", "squad", "--data", "none.json", "--out", "out"],
        ["calibrate", "--model", "run", "--data", "none.json"],
        ["models", "rank", "reader", "run", "--data", "none.json", "--out", "out"],
        ["prompts", "try", "plain", "json", "--data", "none.json", "--out", "out"],
        ["review", "--data", "none.json"],
        ["review", "--data", "none.jsonl"],
        ["synth", "preferences", "gone-none.jsonl", "--out", "out.jsonl"],
        ["train", "sft", str(recipe)],
    ]
    code = (
        "import json, sys; from typer.testing import CliRunner; from palmette.cli.main import app\n"
        f"said = [str(CliRunner().invoke(app, words).exception) for words in {calls!r}]\n"
        "print(json.dumps([said, 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    said, torch = json.loads(done.stdout)
    assert [("none.json" in line or "sft.yaml" in line) for line in said] == [True] * len(calls), said
    assert not torch


def test_there_are_commands() -> None:
    """Else the tests below would look at nothing."""
    assert len(ALL) >= 25


@pytest.mark.parametrize("words", ALL, ids=IDS)
def test_helps_name_values_in_words(words: tuple[str, ...]) -> None:
    """Not by types of Python, such as <list[str]> or <int range>, nor numbers as [x>=1]."""
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "200"}).output
    assert "Options:" in shown
    assert not re.search(r"<[a-z|]+[ \[>]|x[<>]=|=x\b", shown), shown
    arguments = re.findall(
        r"^  ([A-Za-z]+)(?:\.\.\.)?  ", shown.partition("Arguments:")[2].partition("Options:")[0], re.M
    )
    assert arguments == [name.upper() for name in arguments]
    for option in re.findall(r"^  (--[a-z-]+ \S+)  ", shown.partition("Options:")[2], re.M):
        value = option.partition(" ")[2]
        assert value == value.upper() or "|" in value, option


def test_several_values_of_an_argument_have_dots_once() -> None:
    shown = CliRunner().invoke(app, ["predict", "--help"]).output
    assert " {SOURCE}... {OUT}" in shown
    assert re.search(r"^  SOURCE\.\.\.  \w", shown, re.M)


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
    assert "palmette.cli.measure.evaluation" in held
    assert not held & {"palmette.cli.make.synth", "palmette.cli.train.stages", "palmette.evaluate", "rich"}
    everything = modules_after(*([*words, "--help"] for words in ALL))
    assert "palmette.cli.make.synth" in everything
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
    assert [path.name for path in CLI.rglob("*.py") if calls.search(path.read_text())] == ["options.py"]


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


@pytest.mark.parametrize(("shell", "between"), [("fish", "\t"), ("powershell", ":::"), ("zsh", '":"')])
@pytest.mark.parametrize("line", ["palmette train ", "palmette ask --"])
def test_shells_that_show_helps_get_each_on_one_line(shell: str, between: str, line: str) -> None:
    """Fish and PowerShell would propose the second line of a help as a word."""
    asked = {
        "_PALMETTE_COMPLETE": f"complete_{shell}",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_WORD_TO_COMPLETE": line.rpartition(" ")[2],
    }
    code = "import sys; sys.argv = ['palmette']; from palmette.cli.main import main; main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, **asked})
    lines = done.stdout.removeprefix("_arguments '*: :((").removesuffix("\n").removesuffix("))'").split("\n")
    assert [between in one for one in lines] == [True] * len(lines)
    words = [one.strip('"').partition(between)[0] for one in lines]
    assert set(words) >= ({*STAGES} if "train" in line else {"--model", "--why", "--max-words"})
    assert max(map(len, lines)) > 80, "some help would be wrapped"


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


def test_a_commands_parameter_is_replaced_by_options() -> None:
    """A command takes the options of a signature in place of one parameter, without some, or with other defaults."""
    taken: list[tuple[str, Answering, bool]] = []

    def command(*, first: str, answering: Answering, last: bool = False) -> None:
        taken.append((first, answering, last))

    made = expanded("answering", read_answering, without=("decoder", "attention"), max_words=7)(command)
    assert [(name, one.default) for name, one in inspect.signature(made).parameters.items()] == [
        ("first", inspect.Parameter.empty),
        ("calibration", True),
        ("max_words", 7),
        ("inside_words", None),
        ("cost_wrong", None),
        ("last", False),
    ]
    made(first="a", calibration=False, max_words=3, inside_words=None, cost_wrong=None, last=True)
    assert taken == [("a", Answering(calibration=False, max_words=3), True)]


def test_how_a_model_answers_is_asked_alike_by_all_commands_that_answer() -> None:
    listed = [*inspect.signature(read_answering).parameters]
    for words in (("ask",), ("predict",), ("eval", "squad")):
        own = [*inspect.signature(ALL[words].function()).parameters]
        wanted = [name for name in listed if words != ("predict",) or name != "decoder"]
        assert [name for name in own if name in listed] == wanted
