"""The page docs/reference/source-tree.md: the folders of the package with one comment for each file, from its
docstring.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "palmette"
INTRODUCTION = """\
# Source tree

For people who read or change the code. Every file of the package, with what it holds. This page is
written by `make docs` from the first sentence of each file.

<!-- tree -->
"""
_LONGEST, _SHORTEST = 88, 24  # letters of a comment


def source_tree(package: Path = PACKAGE) -> str:
    """The whole page."""
    lines = [f"{package.parent.name}/{package.name}/", *_folder(package, "  ")]
    return INTRODUCTION + "\n" + "".join(f"    {line}\n" for line in lines)


def _folder(folder: Path, indent: str) -> list[str]:
    """The lines of a folder: its own files, then its folders. Folders that hold no code are left out."""
    files = [path for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    width = max([len(path.name) for path in files], default=0)
    lines = [f"{indent}{path.name:<{width}}  # {comment(path)}" for path in files]
    for inner in sorted(path for path in folder.iterdir() if (path / "__init__.py").is_file()):
        lines.append(f"{indent}{inner.name}/  # {comment(inner / '__init__.py')}")
        lines.extend(_folder(inner, indent + "  "))
    return lines


def comment(path: Path) -> str:
    """What a file holds: the first sentence of its docstring. A long one ends at its first colon, unless that leaves
    too little.

    Raises:
        ValueError: the file has no docstring.
    """
    said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not said:
        raise ValueError(f"{path} has no docstring")
    sentence = re.split(r"(?<=[.!?])\s", " ".join(said.split()))[0].rstrip(".")
    first = re.split(r"[:;] ", sentence)[0]
    return first if len(sentence) > _LONGEST and len(first) >= _SHORTEST else sentence
