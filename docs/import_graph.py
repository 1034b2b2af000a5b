"""The picture docs/imports.svg: which layer of the package imports which, drawn from the imports themselves.

A layer stands above all that it imports. An arrow that others imply is left out: who imports `train`, which imports
`data`, may import `data` too.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "src" / "palmette"
Graph = dict[str, set[str]]
# Sizes in units of the picture.
_WIDTH, _MARGIN, _BOX, _LEVEL, _LETTER = 960, 20, 26, 62, 7.4
_INK, _LINE, _FILL, _EDGE = "#222222", "#9aa79a", "#dfe7d8", "#3b6b2e"
_FONTS = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def imports(package: Path = PACKAGE) -> Graph:
    """The layers that each layer imports, from every import statement of its modules."""
    graph: Graph = {}
    for path in sorted(package.rglob("*.py")):
        layer = path.relative_to(package).parts[0].removesuffix(".py")
        if layer.startswith("__"):  # the package's own two modules
            continue
        found = graph.setdefault(layer, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == package.name:
                names = [f"{package.name}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            found |= {name.split(".")[1] for name in names if name.startswith(f"{package.name}.")}
    return {layer: {one for one in found if one in graph} - {layer} for layer, found in graph.items()}


def levels(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """The layers in rows, the lowest first. Each stands right above the highest that it imports.

    Raises:
        ValueError: there is a cycle.

    >>> levels({"cli": {"data", "tree"}, "tree": {"data"}, "data": set()})
    [['data'], ['tree'], ['cli']]
    """
    rows: list[list[str]] = []
    placed: set[str] = set()
    while len(placed) < len(graph):
        row = sorted(name for name, needs in graph.items() if name not in placed and needs <= placed)
        if not row:
            raise ValueError(f"a cycle among {', '.join(sorted(set(graph) - placed))}")
        rows.append(row)
        placed |= set(row)
    return rows


def without_implied(graph: Mapping[str, set[str]]) -> Graph:
    """The graph without the arrows that others imply.

    >>> without_implied({"cli": {"data", "tree"}, "tree": {"data"}, "data": set()})
    {'cli': {'tree'}, 'tree': {'data'}, 'data': set()}
    """
    below: Graph = {}
    for row in levels(graph):
        for name in row:
            below[name] = graph[name].union(*(below[one] for one in graph[name]))
    return {
        name: {one for one in needs if not any(one in below[other] for other in needs)} for name, needs in graph.items()
    }


def picture(package: Path = PACKAGE) -> str:
    """The picture as SVG."""
    graph = imports(package)
    rows, arrows = levels(graph), without_implied(graph)
    places = _places(rows, arrows)
    height = 2 * _MARGIN + _BOX + (len(rows) - 1) * _LEVEL
    size = f'viewBox="0 0 {_WIDTH} {height}"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONTS}" font-size="12">',
        "<title>Which layer imports which</title>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for name, needs in sorted(arrows.items()):
        for one in sorted(needs):
            (x, y), (to_x, to_y) = places[name], places[one]
            start, end = y + _BOX, to_y
            middle = (start + end) / 2
            lines.append(
                f'<path d="M{x:.0f} {start:.0f}C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {end:.0f}" '
                f'fill="none" stroke="{_LINE}"/>'
            )
    for name, (x, y) in sorted(places.items()):
        width = _width(name)
        lines.append(
            f'<rect x="{x - width / 2:.0f}" y="{y:.0f}" width="{width:.0f}" height="{_BOX}" rx="5" fill="{_FILL}" '
            f'stroke="{_EDGE}"/>'
        )
        lines.append(f'<text x="{x:.0f}" y="{y + 17:.0f}" text-anchor="middle" fill="{_INK}">{name}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _width(name: str) -> float:
    return len(name) * _LETTER + 14


def _places(rows: Sequence[Sequence[str]], arrows: Mapping[str, set[str]]) -> dict[str, tuple[float, float]]:
    """The middle of the upper edge of each box. Within a row, a box stands where its neighbours below stand."""
    places: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        y = _MARGIN + (len(rows) - 1 - number) * _LEVEL

        def wanted(name: str) -> float:
            below = [places[one][0] for one in arrows[name]]
            return sum(below) / len(below) if below else _WIDTH / 2

        ordered = sorted(row, key=lambda name: (wanted(name), name))
        room = _WIDTH - 2 * _MARGIN - sum(map(_width, ordered))
        gap, x = room / (len(ordered) + 1), float(_MARGIN)
        for name in ordered:
            x += gap + _width(name) / 2
            places[name] = (x, float(y))
            x += _width(name) / 2
    return places
