"""How a command ends when the user's system fails: one line, an exit code, and no traceback.

Each runs in a process of its own.
"""

from __future__ import annotations

import errno
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from palmette.cli.console import command_line, invoked_as
from palmette.cli.failures import failure_line

PRINTS = "import sys; from palmette.cli.failures import run_command; sys.exit(run_command(lambda: {}))"


def run(*words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    """A Python process; its output as bytes."""
    given = {"capture_output": True, "check": False, "timeout": 60, **options}
    return subprocess.run([sys.executable, *words], **given)  # type: ignore[call-overload,no-any-return]


def prints(expression: str, encoding: str = "utf-8", **options: object) -> subprocess.CompletedProcess[bytes]:
    """A process whose command is one expression."""
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return run("-c", PRINTS.format(expression), env=environment, **options)


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", rb"Zagro\u015bci, \xe9t\xe9, \u2192"),
        ("ascii:surrogateescape", rb"Zagro\u015bci, \xe9t\xe9, \u2192"),  # as in the C locale with PYTHONUTF8=0
        ("cp1252", rb"Zagro\u015bci, " + "été".encode("cp1252") + rb", \u2192"),
    ],
)
def test_a_terminal_without_a_character_gets_its_escape(encoding: str, shown: bytes) -> None:
    """The work is done by then, so nothing of the output is lost."""
    done = prints("print('Zagrości, été, →')", encoding)
    assert (done.returncode, done.stdout.strip()) == (0, shown)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-16"])
def test_json_is_utf_8_under_every_encoding(encoding: str) -> None:
    words = "__import__('palmette.cli.console').cli.console.print_json({'answer': 'Łódź → 7:40', 'bytes': '\\udcff'})"
    done = prints(words, encoding)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.decode("utf-8")) == {"answer": "Łódź → 7:40", "bytes": "\udcff"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is full is a device of Linux")
@pytest.mark.parametrize("words", [("-m", "palmette", "prompts"), ("-c", PRINTS.format("print('one short line')"))])
def test_a_full_disk_is_one_line(words: tuple[str, ...]) -> None:
    """A short line is in Python's buffer until the end, so that only the last flush meets the full disk."""
    with Path("/dev/full").open("wb") as full:
        done = run(*words, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr.decode().splitlines() == ["error: the disk is full. Free some space, or write to another disk."]


@pytest.mark.skipif(os.name == "nt", reason="pipes of Windows report otherwise")
@pytest.mark.parametrize("words", [("-m", "palmette", "--help"), ("-c", PRINTS.format("print('x' * 10**6)"))])
def test_a_reader_that_is_gone_ends_quietly(words: tuple[str, ...]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(*words, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    ("expression", "line"),
    [
        ("open('/nowhere/at all')", "error: /nowhere/at all: there is no such file or folder. Check the path."),
        ("open('/', 'w')", "error: /: it is a folder. Name a file."),
        ("b'\\xff'.decode()", "error: a text is not utf-8 at byte 0. Save it as UTF-8."),
        (
            "'ł'.encode('ascii')",
            "error: '\\u0142' cannot be written as ascii. Set PYTHONUTF8=1, or write to a UTF-8 terminal.",
        ),
        ("(_ for _ in ()).throw(OSError('cannot reach hub.example.\\nTry later.'))",
         "error: cannot reach hub.example. Fix that, and run the command again."),
    ],
)  # fmt: skip
def test_an_error_of_the_system_is_one_line_with_a_way_out(expression: str, line: str) -> None:
    done = prints(expression)
    assert (done.returncode, done.stderr.decode().splitlines()) == (2, [line])


def test_a_bug_keeps_its_traceback() -> None:
    done = prints("{}['key']")
    assert done.returncode == 1
    assert done.stderr.decode().rstrip().endswith("KeyError: 'key'")


@pytest.mark.skipif(os.name == "nt", reason="homes of Windows stand in the environment")
@pytest.mark.parametrize(
    "expression",
    [
        "__import__('pathlib').Path.home()",
        "__import__('getpass').getuser()",
        "__import__('palmette.cache').cache.cache_folder()",
    ],
)
def test_a_user_without_a_home_or_an_entry_is_told_so(expression: str) -> None:
    """The errors come from Python itself, for a number of a user that the system does not know."""
    unknown = "__import__('os').setuid(54321)" if os.getuid() == 0 else "__import__('pwd').getpwuid(54321)"
    variables = {"HOME", "XDG_CACHE_HOME", "LOGNAME", "USER", "LNAME", "USERNAME"}
    environment = {name: value for name, value in os.environ.items() if name not in variables}
    imports = "import palmette.model.embedded, getpass, pathlib, pwd, sys; "
    done = run("-c", imports + PRINTS.format(f"({unknown}, {expression})"), env=environment)
    assert done.returncode == 2, done.stderr
    assert done.stderr.decode().splitlines() == [
        "error: this user has no home folder. Set HOME to a folder that can be written."
    ]


def test_a_home_that_nobody_has() -> None:
    done = run("-m", "palmette", "report", "~nosuchuser/run")
    assert done.returncode == 2
    assert done.stderr.decode().splitlines()[-1].startswith("error: '~nosuchuser/run' names no home folder")


def test_a_closed_standard_output_is_no_error() -> None:
    done = run("-c", "import sys; sys.stdout = None; " + PRINTS.format("None"))
    assert (done.returncode, done.stderr) == (0, b"")


def test_each_error_of_a_full_disk_has_the_same_way_out() -> None:
    lines = {failure_line(OSError(number, "full", "runs/a/log")) for number in (errno.ENOSPC, errno.EDQUOT)}
    assert lines == {
        "error: runs/a/log: the disk is full. Free some space, or write to another disk.",
        "error: runs/a/log: your share of the disk is full. Free some space, or write to another disk.",
    }


@pytest.mark.parametrize("name", ["runs/my first run", "it's", "a;rm b", "$HOME", "plain"])
def test_commands_to_try_are_quoted_for_the_shell(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell gives back the words, and the path of the program too."""
    monkeypatch.setattr(sys, "argv", ["/opt/my tools/palmette"])
    line = command_line("ask", "--model", Path(name), "Who's there?")
    shown = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {line}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert shown == ["/opt/my tools/palmette", "ask", "--model", name, "Who's there?"]
    assert shlex.split(invoked_as()) == ["/opt/my tools/palmette"]
