"""The program that runs the README's commands finds them all."""

from __future__ import annotations

import re

from benchmarks.readme_commands import HEADING, README, commands


def test_commands_are_found_without_their_comments() -> None:
    section = "Text.\n\n    palmette a b  # 3 s\n    echo 'x' | palmette c\n"
    text = f"    palmette no\n{HEADING}\n\n{section}\n## Next\n\n    palmette d\n"
    assert commands(text) == ["palmette a b", "echo 'x' | palmette c"]


def test_the_section_begins_with_what_the_others_need() -> None:
    found = commands(README.read_text(encoding="utf-8"))
    assert found[:2] == ["palmette quickstart", "palmette examples"]
    assert len(found) > 12


def test_each_command_has_its_time_beside_it() -> None:
    section = README.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n## ")[0]
    lines = re.findall(r"^ {4}\S.*$", section, flags=re.MULTILINE)
    assert not [line for line in lines if not re.search(r"  # [\d.]+ (s|min)", line)]
