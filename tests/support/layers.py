"""The layers of the package, and what each of them may import: the table of docs/architecture.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import SOURCE

# Layers in the order of docs/architecture.md. "train.stages" would permit one module of a layer and no other.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "files": {"errors"},
    "seeds": set(),
    "config": {"errors", "files"},
    "run": {"errors"},
    "numbers": set(),
    "processes": {"errors"},
    "progress": {"numbers", "processes"},
    "lock": {"errors"},
    "cache": set(),
    "startup": set(),
    "hub": set(),
    "hosts": set(),
    "documents": {"errors", "files"},
    "data": {"errors", "files", "documents", "hub"},
    "corpus": {"errors", "files", "config", "numbers", "progress", "documents", "data"},
    "tree": {"errors"},
    "tasks": {"errors", "files", "data", "tree"},
    "model": {"errors", "cache", "hub", "tree"},
    "objectives": set(),
    "store": {"errors", "files", "lock"},
    "decode": {"errors", "data", "tree", "tasks", "model"},
    "rollouts": {
        "errors",
        "seeds",
        "processes",
        "hosts",
        "data",
        "tree",
        "tasks",
        "model",
        "objectives",
        "decode",
        "endpoint.settings",
        "endpoint.transport",
    },
}
_RUN = {"errors", "files", "config", "run", "progress"}
_SHARED = {
    *_RUN,
    "numbers",
    "processes",
    "seeds",
    "data",
    "corpus",
    "tree",
    "tasks",
    "model",
    "objectives",
    "decode",
    "rollouts",
    "inference",
}
MAY_IMPORT |= {
    "inference": {*_RUN, "numbers", "lock", "cache", "startup", "data", "corpus", "tree", "tasks", "model", "decode"},
    "encoders": {
        "errors",
        "files",
        "run",
        "numbers",
        "progress",
        "lock",
        "seeds",
        "model",
        "decode",
        "inference",
    },
    "train": {*_SHARED, "lock", "cache", "encoders", "arena.source"},
    "evaluate": _SHARED - {"files", "seeds", "processes", "corpus"},
    "choice": {"errors", "files", "run", "progress", "lock", "data", "tree", "model", "inference"},
    "review": {"errors", "data", "tasks", "decode", "evaluate", "store"},
    "arena": {"errors", "files", "run", "numbers", "data", "evaluate", "store"},
    "judge": {
        "errors",
        "files",
        "run",
        "progress",
        "data",
        "tree",
        "tasks",
        "model",
        "inference",
        "evaluate",
        "arena",
        "endpoint",
    },
    "extraction": {*_RUN, "numbers", "data", "documents", "decode", "inference", "evaluate"},
    "pages": {
        "errors",
        "files",
        "run",
        "numbers",
        "progress",
        "data",
        "corpus",
        "tasks",
        "evaluate",
        "choice",
        "arena",
        "extraction",
        "encoders",
        "train.stages",
    },
    "baselines": {
        "errors",
        "files",
        "seeds",
        "run",
        "processes",
        "progress",
        "data",
        "tasks",
        "model",
        "decode",
        "encoders",
        "train",
        "evaluate",
        "pages",
    },
    "endpoint": {"errors", "run", "numbers", "hosts", "data", "tasks", "decode"},
    "synth": {
        *_RUN,
        "seeds",
        "numbers",
        "lock",
        "data",
        "corpus",
        "tree",
        "tasks",
        "model",
        "decode",
        "rollouts",
        "inference",
        "pages",
        "endpoint",
    },
    "publish": {
        "errors",
        "files",
        "config",
        "run",
        "numbers",
        "data",
        "tree",
        "tasks",
        "model",
        "inference",
        "evaluate",
    },
}
MAY_IMPORT["web"] = {"errors", "hosts", "data", "decode", "review", "arena"}
MAY_IMPORT["serving"] = {
    "errors",
    "hosts",
    "documents",
    "data",
    "tree",
    "tasks",
    "model",
    "decode",
    "inference",
    "extraction",
    "web",
}
MAY_IMPORT["mcp"] = {"errors", "files", "documents", "data", "decode", "extraction", "serving"}
# The last two name what they may not import: which of the others they need changes with every command.
BY_RULE = {"studies": {"baselines", "endpoint", "publish", "web", "serving", "mcp", "cli"}, "cli": set()}
MAY_IMPORT |= {name: ({*MAY_IMPORT, *BY_RULE} - {name} - forbidden) for name, forbidden in BY_RULE.items()}

# Every module but the package's own two, which hold its public names and run it as a program.
MODULES = sorted(path for path in SOURCE.rglob("*.py") if path not in (SOURCE / "__init__.py", SOURCE / "__main__.py"))


def layer(path: Path) -> str:
    """The layer that a module belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path: Path, package: str) -> Iterator[str]:
    """The dotted names of a package that a file imports, without the package's own name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where a name comes from"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        yield from (name.partition(".")[2] for name in names if name.startswith(f"{package}."))


def permission(path: Path, name: str) -> str | None:
    """What permits a module to import a name of the package; None where nothing does."""
    first, *_ = name.split(".")
    return next((one for one in MAY_IMPORT[layer(path)] if one in (first, ".".join(name.split(".")[:2]))), None)
