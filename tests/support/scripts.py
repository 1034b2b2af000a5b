"""Programs that belong to no package, as modules."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace

from tests.support.paths import ROOT

BENCHMARKS = ROOT / "benchmarks"


def script(path: str) -> ModuleType:
    """A program of the repository by its path, such as "docs/record.py"."""
    name = path.removesuffix(".py").replace("/", "_")  # those of different folders may have one name
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = loaded  # where dataclasses look for their module
    spec.loader.exec_module(loaded)
    return loaded


@contextlib.contextmanager
def benchmark_scripts(names: Sequence[str]) -> Iterator[SimpleNamespace]:
    """Modules of a benchmark, which import each other as scripts do. None of another benchmark's tests is taken up."""

    def forget() -> None:
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "").parent == BENCHMARKS:
                del sys.modules[name]

    forget()
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in names})
    finally:
        sys.path.remove(str(BENCHMARKS))
        forget()
