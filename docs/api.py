"""The page of the Python API, written from signatures and docstrings."""

from __future__ import annotations

import importlib
import inspect
import json
import re
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import palmette

_OPENING = """\
# Python API

For programs that answer, measure or train with Palmette. This page is written by `make docs` from
the docstrings, and a test runs its examples in this order.

```python
import palmette
```

`import palmette` is quick. Each name imports what it needs when it is first used.

## What stays

[Semantic versioning](https://semver.org) covers these names (`palmette.__all__`), the commands and
their options, the keys of recipes, and the formats of files. Of a class, it covers the attributes
and methods that this page lists. Everything else in the package may move from one release to the
next, whether or not its name starts with an underscore.
"""

# The chapters, with the names of each. A name with a dot is a member that belongs to the name before it.
_CHAPTERS: dict[str, list[str]] = {
    "Answers": [
        "load",
        "Answerer",
        "Answerer.answer",
        "Answerer.span_decoder",
        "Prediction",
        "Candidate",
        "Decision",
        "Effort",
    ],
    "Extraction": ["extract", "read_schema", "FieldResult", "FieldValue"],
    "Data and evaluation": [
        "read_data",
        "Document",
        "Question",
        "Answer",
        "evaluate",
        "Evaluation",
        "Evaluation.metrics",
        "Evaluation.intervals",
        "Evaluation.write",
        "Evaluation.read",
    ],
    "Training": ["read_recipe", "train", "resume", "load_reward", "RewardModel.scores"],
    "Errors and version": ["PalmetteError", "__version__"],
}

_EXAMPLES = {
    "load": """\
reader = palmette.load("runs/quickstart")
uncalibrated = palmette.load("runs/quickstart", calibrated=False)
""",
    "Answerer.answer": """\
text = "The ferry leaves at 7:40 from pier 3. A ticket costs 5 euros."
answers = reader.answer(text, ["When does the ferry leave?", "Who is the captain?"])
for answer in answers:
    print(answer.text or f"refused: {answer.refusal}", answer.probability)
""",
    "Prediction": """\
for answer in answers:
    assert not answer.text or text[answer.start : answer.end] == answer.text
""",
    "Candidate": """\
for candidate in answers[0].candidates[:3]:
    print(candidate.text, candidate.start, candidate.probability)
""",
    "Decision": """\
question = palmette.Question("q1", "When does the ferry leave?")
document = palmette.Document("ferry", text, (question,))
cautious = reader.span_decoder(decision=palmette.Decision(min_confidence=0.8))
for question_id, answer in cautious.predict([document]):
    print(question_id, answer.text, answer.refusal)
""",
    "Effort": """\
brief = uncalibrated.span_decoder(palmette.Effort(max_words=5))
for question_id, answer in brief.predict([document]):
    print(question_id, answer.text)
""",
    "extract": """\
schema = {
    "fields": {
        "departure": "When does the ferry leave?",
        "price": {"question": "How much is a ticket?", "type": "amount"},
    }
}
found = palmette.extract(reader, schema, text)
for name, field in found.items():
    print(name, [(one.text, one.value, one.currency) for one in field.values], field.reason)
""",
    "read_schema": """\
known = palmette.read_schema(schema)
print([field.name for field in known.fields])
""",
    "FieldValue": """\
for value in found["price"].values:
    assert text[value.start : value.end] == value.text
""",
    "read_data": """\
data = palmette.read_data("builtin:test", limit=2)
print(data.num_questions, data.documents[0].title)
""",
    "Answer": """\
leaves = palmette.Question("q1", "When does the ferry leave?", (palmette.Answer("7:40", 20),))
captain = palmette.Question("q2", "Who is the captain?")  # the document does not say
harbour = palmette.Document("harbour", text, (leaves, captain))
""",
    "evaluate": """\
result = palmette.evaluate(reader, data)
print(result.metrics["exact"], result.intervals["exact"])
own = palmette.evaluate(reader, [harbour])
print(own.metrics["exact"])
""",
    "Evaluation.read": """\
from pathlib import Path

folder = Path("runs/evaluation")
folder.mkdir(parents=True)
result.write(folder)
assert palmette.Evaluation.read(folder).metrics["exact"] == result.metrics["exact"]
""",
    "train": """\
recipe = palmette.read_recipe("recipes/dpo.yaml")
run = palmette.train(recipe, say=print)
aligned = palmette.load(run.folder)
""",
    "RewardModel.scores": """\
reward = palmette.load_reward("runs/reward")
print(reward.scores([("When does it leave?", "At 7:40."), ("When does it leave?", "Never.")]))
""",
    "PalmetteError": """\
try:
    palmette.resume(run.folder)
except palmette.PalmetteError as error:
    print(error.problem)  # the run is finished
    print(error.way_out)  # what to do about it
""",
    "__version__": """\
print(palmette.__version__)
""",
}
# Classes that functions of the API make, and nobody else.
_MADE_HERE = {"Answerer", "Evaluation"}
# Names of types, spelled out.
_ALIASES = {
    "ModelName": "str | PathLike[str]",
    "os.PathLike[str]": "PathLike[str]",
    "AttentionChoice": 'Literal["auto", "flex", "sdpa", "eager"]',
    "DecoderName": 'Literal["span", "greedy", "beam"]',
    "OnBad": 'Literal["error", "drop"]',
    "Refusal": 'Literal["", "absent", "unsure"]',
    "Messages": "str | Sequence[Mapping[str, Any]]",
    "Say": "Callable[[str], None]",
}
_WIDTH = 100
_SECTION = re.compile(r"^(Args|Attributes|Returns|Raises|Yields):$")
_TITLES = {
    "Args": "Arguments",
    "Attributes": "Attributes",
    "Returns": "Returns",
    "Raises": "Errors",
    "Yields": "Yields",
}


def python_api() -> str:
    """The page, as Markdown.

    Raises:
        ValueError: a name of the API is in no chapter.
    """
    missing = set(palmette.__all__) - {name for names in _CHAPTERS.values() for name in names}
    if missing:
        raise ValueError(f"no chapter of the page holds {sorted(missing)}")
    parts = [_OPENING]
    for chapter, names in _CHAPTERS.items():
        parts.append(f"## {chapter}\n")
        for name in names:
            parts.extend(_described(name))
    return "\n".join(parts).rstrip() + "\n"


def defined(name: str) -> Any:
    """What a name of the page stands for.

    `evaluate` and `train` are the functions, and not the packages that are called.
    """
    first, _, member = name.partition(".")
    if first == "RewardModel":
        value: Any = importlib.import_module("palmette.inference.reward_model").RewardModel
    elif first == "evaluate":
        value = importlib.import_module("palmette.evaluate.answers").evaluate
    elif first == "train":
        value = importlib.import_module("palmette.train.run").train
    else:
        value = getattr(palmette, first)
    return inspect.getattr_static(value, member) if member else value


def _described(name: str) -> list[str]:
    value = defined(name)
    parts = [f"{'####' if '.' in name else '###'} `{name}`\n"]
    if name == "__version__":
        parts.append("The version of the package, as a `str`.\n")
    else:
        value = getattr(value, "__func__", value)  # a class method
        value = getattr(value, "func", None) or getattr(value, "fget", None) or value  # a property, cached or not
        parts.extend(_head(name, value))
        parts.extend(_body(inspect.getdoc(value) or "", _types(value)))
    if name in _EXAMPLES:
        parts.append(f"```python\n{_EXAMPLES[name]}```\n")
    return parts


def _head(name: str, value: Any) -> list[str]:
    """The signature, where there is one to call."""
    parameters = list(inspect.signature(value).parameters.values())
    method = "." in name
    if method and len(parameters) == 1 and parameters[0].name == "self" and name.split(".")[1] != "write":
        return [f"A property: `{_plain(inspect.signature(value).return_annotation)}`.\n"]
    if name in _MADE_HERE:
        return [f"```text\nclass palmette.{name}\n```\n"]
    shown = [_parameter(one) for one in (parameters[1:] if method else parameters)]
    first_keyword = next((i for i, one in enumerate(parameters) if one.kind is one.KEYWORD_ONLY), None)
    if first_keyword is not None:
        shown.insert(first_keyword - method, "*")
    returned = "" if inspect.isclass(value) else f" -> {_plain(inspect.signature(value).return_annotation)}"
    call = name if method else f"palmette.{name}"
    line = f"{call}({', '.join(shown)}){returned}"
    if len(line) > _WIDTH:
        line = f"{call}(\n" + "".join(f"    {one},\n" for one in shown) + f"){returned}"
    return [f"```text\n{line}\n```\n"]


def _parameter(parameter: inspect.Parameter) -> str:
    annotation = "" if parameter.annotation is parameter.empty else f": {_plain(parameter.annotation)}"
    if parameter.default is parameter.empty:
        return f"{parameter.name}{annotation}"
    return f"{parameter.name}{annotation} = {_default(parameter.default)}"


def _default(value: Any) -> str:
    """A default value, without the address that a function's representation holds."""
    if isinstance(value, str):
        return json.dumps(value)
    return value.__name__ if inspect.isfunction(value) else repr(value)


def _plain(annotation: Any) -> str:
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", str(annotation))
    return re.sub(r"[\w.]+(\[str\])?", lambda found: _ALIASES.get(found[0], found[0]), text)


def _types(value: Any) -> dict[str, str]:
    """The types of a data class's attributes, with their defaults."""
    if not is_dataclass(value):
        return {}
    found = {}
    for field in fields(value):
        default = "" if field.default is MISSING else f", {_default(field.default)} by default"
        found[field.name] = f"`{_plain(field.type)}`{default}"
    return found


def _body(text: str, types: dict[str, str]) -> list[str]:
    """A docstring as Markdown: paragraphs, then a list for each section."""
    parts: list[str] = []
    section = ""
    for block in re.split(r"\n\s*\n", text):
        lines = block.splitlines()
        found = _SECTION.match(lines[0])
        section = found[1] if found else ""
        if not section:
            parts.append(textwrap.fill(" ".join(lines), _WIDTH) + "\n")
            continue
        items = _items(lines[1:]) if section != "Returns" else [" ".join(line.strip() for line in lines[1:])]
        if section == "Returns":
            parts.append(textwrap.fill(f"**Returns:** {items[0]}", _WIDTH) + "\n")
            continue
        parts.append(f"**{_TITLES[section]}**\n")
        parts.append("\n".join(_item(item, types) for item in items) + "\n")
    return parts


def _items(lines: list[str]) -> list[str]:
    """The entries of a section; deeper lines continue the entry above them."""
    items: list[str] = []
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    for line in lines:
        if len(line) - len(line.lstrip()) > margin:
            items[-1] += f" {line.strip()}"
        else:
            items.append(line.strip())
    return items


def _item(item: str, types: dict[str, str]) -> str:
    names, _, text = item.partition(": ")
    kind = types.get(names.split(",")[0])
    marked = ", ".join(f"`{name.strip()}`" for name in names.split(","))
    line = f"- {marked}{f' ({kind})' if kind else ''}: {text}"
    return textwrap.fill(line, _WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
