"""The page of a comparison of models: what they are made of, how they read, what they say, and what they cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from palmette.numbers import NONE, count, fixed, interval, places_of, readable, with_interval
from palmette.pages.charts import share_bar
from palmette.pages.page import render_page, write_page

Record = Mapping[str, Any]
_SHADES = (0.01, 0.1, 0.5, 1.0, 2.0)  # nats, from which on a token gets the next shade
_MOST_ADDED = 8  # added tokens that are listed


def write_comparison(path: Path, record: Record) -> None:
    """Write the page.

    Args:
        path: the HTML file.
        record: of `studies.models.compare.compare_models`.

    Raises:
        RunError: the file cannot be written.
    """
    write_page(path, render_comparison(record))


def render_comparison(record: Record) -> str:
    """The page as HTML."""
    models: Sequence[Record] = record["models"]
    names = [model["name"] for model in models]
    return render_page(
        "model_comparison.html",
        styles=("page.css", "model_comparison.css"),
        scripts=(),
        title="Models compared",
        facts=[("First", names[0]), ("Compared", ", ".join(names[1:]))],
        names=names,
        notes=record["notes"],
        configuration=list(_configuration(models)),
        tokenizers=list(_tokenizers(models)),
        templates=[_template(model) for model in models],
        replies=list(_replies(models)),
        reading=list(_reading(models)),
        pairs=[_pair(names[0], pair) for pair in record["pairs"]],
        shades=[0, *_SHADES],
        costs=list(_costs(models)),
        differences=list(_differences(names[0], record["pairs"])),
        benchmarks=list(benchmark_rows(models)),
        benchmark_differences=list(_benchmark_differences(names[0], record["pairs"])),
    )


def size(number: float | None) -> str:
    """Bytes in the unit that suits them.

    >>> size(98_362_432), size(16e9), size(None)
    ('98 MB', '16 GB', '-')
    """
    if number is None:
        return NONE
    return f"{readable(number / 1e9, 2)} GB" if number >= 1e9 else f"{readable(number / 1e6, 2)} MB"


def _row(name: str, models: Sequence[Record], cell: Callable[[Record], str]) -> dict[str, Any]:
    """A row with a cell for each model. Rows in which models differ are marked."""
    cells = [cell(model) for model in models]
    return {"name": name, "cells": cells, "differs": len(set(cells)) > 1}


def _at(*keys: str | int, form: Callable[[Any], str] = str) -> Callable[[Record], str]:
    """A cell with a value of a model's record, found by the keys that lead to it."""

    def cell(model: Record) -> str:
        value: Any = model
        for key in keys:
            value = value[key]
        return form(value)

    return cell


def _whole(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _or_none(value: Any) -> str:
    return str(value) if value else "none"


def _configuration(models: Sequence[Record]) -> Iterator[dict[str, Any]]:
    of, parts = "configuration", models[0]["configuration"]["parameters"]
    yield _row("Family", models, _at(of, "family"))
    yield _row("Parameters", models, _at(of, "num_parameters", form=_whole))
    for part in parts:
        yield _row(f"of these, {part}", models, _at(of, "parameters", part, form=_whole))
    for key, name in (
        ("num_layers", "Layers"),
        ("hidden_size", "Width"),
        ("intermediate_size", "Width of the MLP"),
        ("num_heads", "Heads"),
        ("num_key_heads", "Key heads"),
        ("head_size", "Width of a head"),
        ("cache_bytes_a_token", "Cached bytes a token"),
        ("vocabulary", "Vocabulary"),
        ("num_positions", "Positions"),
    ):
        yield _row(name, models, _at(of, key, form=_whole))
    yield _row("Rotary positions", models, _rope)
    yield _row("Sliding window", models, _at(of, "window", form=_or_none))
    yield _row("Output layer is the embedding", models, _at(of, "tied", form=_yes))
    yield _row("Weights stored as", models, _at("stored_dtype", form=_or_none))
    yield _row("Computed in", models, _at("computed_dtype"))
    yield _row("Comes from", models, _at("base"))
    yield _row("Licence", models, _at("licence"))


def _rope(model: Record) -> str:
    rope = model["configuration"]["rope"]
    return ", ".join(f"{key.removeprefix('rope_')} {value}" for key, value in sorted(rope.items())) or "none"


def _tokenizers(models: Sequence[Record]) -> Iterator[dict[str, Any]]:
    of = "tokenizer"
    yield _row("Tokens", models, _at(of, "size", form=_whole))
    yield _row("shared with the first", models, _shared)
    for key, name in (("bos", "Begin"), ("eos", "End"), ("pad", "Padding"), ("unk", "Unknown")):
        yield _row(name, models, _at(of, "special", key, form=_or_none))
    yield _row("Puts the begin before a text", models, _at(of, "begins_with_bos", form=_yes))
    yield _row("A text of the model begins with", models, _at(of, "begin", form=_or_none))
    yield _row("A text of the model ends with", models, _at(of, "ends", form=lambda ends: _or_none(", ".join(ends))))
    yield _row("Added tokens", models, _added)
    for text in models[0][of]["tokens_a_word"]:
        yield _row(f"Tokens a word, {text}", models, _at(of, "tokens_a_word", text, form=lambda value: fixed(value, 2)))


def _shared(model: Record) -> str:
    tokenizer = model["tokenizer"]
    if tokenizer["shared_tokens"] is None:
        return NONE
    if tokenizer["same_tokens"]:
        return "all, with the same numbers"
    return f"{tokenizer['shared_tokens']:,}"


def _added(model: Record) -> str:
    added = model["tokenizer"]["added"]
    more = f" and {len(added) - _MOST_ADDED} more" if len(added) > _MOST_ADDED else ""
    return " ".join(added[:_MOST_ADDED]) + more if added else "none"


def _template(model: Record) -> dict[str, Any]:
    template = model["template"]
    return {
        "name": model["name"],
        "present": template["present"],
        "problem": model["problem"],
        "pieces": template.get("pieces", ()),
        "facts": [
            ("The assistant goes on from", template.get("generation_prompt") or "nothing"),
            ("Default system message", template.get("default_system") or "none"),
            *((trial["what"].capitalize(), trial["outcome"]) for trial in template.get("trials", ())),
        ],
    }


def _replies(models: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """A row for each prompt and form, with a cell for each model."""
    of_model = [{(one["prompt"], one["form"]): one for one in model.get("replies", ())} for model in models]
    for key in dict.fromkeys(key for replies in of_model for key in replies):
        found = [replies.get(key) for replies in of_model]
        yield {
            "prompt": key[0],
            "form": "raw" if key[1] == "raw" else "through the chat template",
            "cells": [
                {
                    "name": model["name"],
                    "put": one["put"],
                    "reply": one["reply"],
                    "finish": "" if one["finish"] == "end" else f"cut after {one['tokens']} tokens",
                    "first": [(repr(token)[1:-1], fixed(100 * share)) for token, share in one["first"]],
                    "entropy": fixed(one["entropy"], 2),
                }
                if one
                else {"name": model["name"], "put": None, "why_not": _why_not(model, "replies")}
                for model, one in zip(models, found, strict=True)
            ],
        }


def _reading(models: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """Bits per byte of each text. They can be compared between tokenizers."""
    of_model = [{text["id"]: text["bits_per_byte"] for text in model.get("texts", ())} for model in models]
    for name in dict.fromkeys(name for bits in of_model for name in bits):
        cells = [fixed(bits.get(name), 3) for bits in of_model]
        yield {"name": name, "cells": cells, "differs": len(set(cells)) > 1}


def _why_not(model: Record, part: str) -> str:
    """Why a model could not do a part, as a sentence."""
    problem = model["why_not"].get(part)
    return f"{problem[0].upper()}{problem[1:]}." if problem else "It has no chat template."


def _pair(first: str, pair: Record) -> dict[str, Any]:
    """What differs between the first model and another: tokens of texts by their shade, and layers with bars."""
    weights = pair.get("weights")
    layers = weights["layers"] if weights else ()
    most = max((layer["distance"] for layer in layers), default=0.0) or 1.0
    return {
        "title": f"{first} and {pair['name']}",
        "why_not": pair.get("why_not", ""),
        "texts": [
            {
                "id": text["id"],
                "kl": readable(text["kl"]),
                "perplexity": [readable(value) for value in text["perplexity"]],
                "pieces": [(piece, shade(nats or 0.0), fixed(nats, 3)) for piece, nats in text["pieces"]],
            }
            for text in pair.get("reading") or ()
        ],
        "compared": f"{weights['compared']} of {weights['tensors']}" if weights else "",
        "layers": [
            {
                "layer": layer["layer"],
                "distance": fixed(100 * layer["distance"], 2),
                "attention": fixed(_percent(layer.get("attention")), 2),
                "mlp": fixed(_percent(layer.get("mlp")), 2),
                "bar": share_bar(100 * layer["distance"] / most),
            }
            for layer in layers
        ],
    }


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def shade(nats: float) -> int:
    """The shade of a token, 0 to 5, by its divergence.

    >>> [shade(nats) for nats in (0.0, 0.05, 3.0)]
    [0, 1, 5]
    """
    return sum(nats >= least for least in _SHADES)


def _costs(models: Sequence[Record]) -> Iterator[dict[str, Any]]:
    for key, name in (
        ("disk_bytes", "On the disk"),
        ("weights_bytes", "Weights in memory"),
        ("planned_bytes", "Memory to answer, by arithmetic"),
        ("peak_bytes", "Memory at the peak of answering, measured"),
    ):
        yield _row(name, models, _at(key, form=size))
    for key, name in (
        ("written", "Tokens written a second"),
        ("read", "Tokens read a second"),
        ("questions", "Questions answered a second"),
    ):
        yield {"name": name, "cells": [fixed(model["speed"].get(key)) for model in models], "differs": False}
    for key, name in (
        ("exact", "Exact match, %"),
        ("f1", "F1, %"),
        ("HasAns_exact", "Exact match, answerable, %"),
        ("correct_no_answer", "Refused, unanswerable, %"),
    ):
        yield {"name": name, "cells": [_figure(model.get("task"), key) for model in models], "differs": False}


def _figure(task: Record | None, key: str) -> str:
    if task is None or task[key] is None:
        return NONE
    return with_interval(task[key], task["intervals"].get(key))


def _differences(first: str, pairs: Sequence[Record]) -> Iterator[str]:
    """Exact match of each model less that of the first, in words."""
    for pair in pairs:
        found = pair.get("task")
        if not found:
            continue
        ends = (found["low"], found["high"])
        places = places_of(ends)
        between = interval(ends, places, sign=True)
        what = f"{pair['name']} less {first}: {fixed(found['exact'], places, sign=True)} points"
        sure = "Other documents could reverse the order." if ends[0] <= 0 <= ends[1] else "The interval leaves out 0."
        yield f"{what} ({between}). {sure}" if between else f"{what}. Both answer alike."


def benchmark_rows(models: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """A row for each multiple-choice benchmark, with its headline measure in percent."""
    of_model = [{one["task"]: one for one in model["choice"]} for model in models]
    first = {task: one for found in reversed(of_model) for task, one in found.items()}
    for task in dict.fromkeys(task for found in of_model for task in found):
        one = first[task]
        cells = [_share(found.get(task)) for found in of_model]
        name = f"{one['title']}, {one['headline']}, {count(one['items'], 'item')}, %"
        yield {"name": name, "cells": cells, "differs": False}


def _share(found: Record | None) -> str:
    if found is None:
        return NONE
    ends = None if found["low"] is None else (found["low"], found["high"])
    return with_interval(found["value"], ends, scale=100.0)


def _benchmark_differences(first: str, pairs: Sequence[Record]) -> Iterator[str]:
    """The headline measure of each model less that of the first, in words."""
    for pair in pairs:
        for one in pair["choice"]:
            ends = None if one["low"] is None else (100 * one["low"], 100 * one["high"])
            what = f"{one['title']}, {pair['name']} less {first}: {fixed(100 * one['difference'], sign=True)} points"
            between = interval(ends, sign=True)
            said = {"first": f"{first} is better.", "other": f"{pair['name']} is better."}.get(
                one["better"], "These items cannot tell the two apart."
            )
            yield f"{what} ({between}). {said}" if between else f"{what}. {said}"
