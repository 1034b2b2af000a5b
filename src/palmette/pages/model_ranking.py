"""The page of a ranking of models: one table, the Pareto front as a chart, and which differences are noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from palmette.numbers import count, fixed, interval, places_of, readable, with_interval
from palmette.pages.charts import FrontPoint, front_chart
from palmette.pages.model_comparison import size
from palmette.pages.page import render_page, write_page

Record = Mapping[str, Any]


def write_ranking(path: Path, record: Record) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        record: of `studies.models.rank.rank_models`.

    Raises:
        RunError: the file cannot be written.
    """
    write_page(path, render_ranking(record))


def render_ranking(record: Record) -> str:
    """The page as HTML."""
    models: Sequence[Record] = record["models"]
    return render_page(
        "model_ranking.html",
        styles=("page.css", "model_comparison.css"),
        scripts=(),
        title="Models ranked",
        facts=[
            ("Data", record["data"]["source"]),
            ("Asked", count(models[0]["total"], "question")),
        ],
        conclusion=conclusion(record),
        rows=list(ranking_rows(models)),
        chart=front_chart(
            [
                FrontPoint(model["name"], model["questions_per_second"], model["exact"], model["front"])
                for model in models
            ]
        ),
        pairs=list(pair_rows(record["pairs"])),
        level=readable(100 * record["level"]),
        parameters=[(model["name"], f"{model['num_parameters']:,}") for model in models],
    )


def conclusion(record: Record) -> str:
    """Which model is the best, and which of the others are not seen to be worse, in words."""
    best = record["models"][0]["name"]
    close = [pair["worse"] for pair in record["pairs"] if pair["better"] == best and pair["noise"]]
    if not close:
        return f"{best} is the best, and the differences from all others are more than noise."
    return f"{best} has the highest figure. Its difference from {' and '.join(close)} may be noise."


def ranking_rows(models: Sequence[Record]) -> Iterator[dict[str, str]]:
    """A line for each model, as text, from the best to the worst."""
    for model in models:
        yield {
            "name": model["name"],
            "exact": with_interval(model["exact"], model["intervals"].get("exact")),
            "f1": with_interval(model["f1"], model["intervals"].get("f1")),
            "rate": readable(model["questions_per_second"], 2),
            "memory": size(model["planned_bytes"]),
            "peak": size(model["peak_bytes"]),
            "disk": size(model["disk_bytes"]),
            "licence": model["licence"],
            "front": "yes" if model["front"] else f"no, see {model['beaten_by']}",
        }


def pair_rows(pairs: Sequence[Record]) -> Iterator[dict[str, str]]:
    """A line for each two models, as text."""
    for pair in pairs:
        ends = (pair["low"], pair["high"])
        places = places_of(ends)
        yield {
            "pair": f"{pair['better']} less {pair['worse']}",
            "difference": fixed(pair["difference"], places, sign=True),
            "interval": interval(ends, places, sign=True),
            "p": readable(pair["p_holm"], 2),
            "verdict": "may be noise" if pair["noise"] else f"{pair['better']} is better",
        }
