"""Tasks: what a benchmark's rows are called, and how a row becomes a context and choices. One YAML file each."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from importlib import resources
from typing import Any, cast

import jinja2
import jinja2.sandbox

from palmette.choice.items import ChoiceItem, check_item
from palmette.choice.settings import RULES, Rule
from palmette.data.text import short
from palmette.errors import DataError, in_yaml, kind_of_value, reason_of
from palmette.files import expand, parse_yaml

Row = Mapping[str, Any]
OWN = "choices"  # the task of rows that hold context, choices and gold themselves
_HEADLINES = ("acc", "acc_norm")
_KINDS = {"str": str, "bool": bool}


@dataclass(frozen=True)
class Wording:
    """How a rule reads the rows of a task. Each value is an expression of Jinja over the columns of a row.

    Attributes:
        choices: the texts of the choices.
        headline: the measure that the task is reported by, "acc" or "acc_norm".
        context: the text before the choices.
        contexts: the text before each choice, where the choices stand in it.
        continuation: the text that is scored after each of `contexts`.
        description: text before everything else. In a chat it is the system message.
        delimiter: plain text between a context and a choice.
        may_be_empty: whether a context may be empty, as where a sentence begins with its blank.
    """

    choices: str
    headline: str
    context: str = ""
    contexts: str = ""
    continuation: str = ""
    description: str = ""
    delimiter: str = " "
    may_be_empty: bool = False


@dataclass(frozen=True)
class Task:
    """A benchmark.

    Attributes:
        name: its name.
        title: its name as its authors write it.
        about: what it asks, in a line.
        needs: columns that every row has.
        gold: the index of the right choice, an expression over the columns.
        rules: how each rule reads a row.
        hub: the id of its data on the Hugging Face hub, which loads without a script.
        config: the part of the hub data set.
        split: the split that is measured.
        shots_split: the split that examples come from.
        subject: the column that names the subject. "" if there are none.
    """

    name: str
    title: str
    about: str
    needs: tuple[str, ...]
    gold: str
    rules: Mapping[str, Wording]
    hub: str = ""
    config: str = ""
    split: str = ""
    shots_split: str = ""
    subject: str = ""

    def reader(self, rule: Rule) -> RowReader:
        """Reads rows as a rule has it.

        Raises:
            DataError: the task has no such rule.
        """
        if rule not in self.rules:
            raise DataError(f"the task {self.name!r} has no rule {rule!r}", f"It has {', '.join(self.rules)}.")
        return RowReader(self, rule)

    @property
    def sha256(self) -> str:
        """Hash of what the task says about contexts, choices and labels."""
        values = {name: vars(wording) for name, wording in self.rules.items()}
        return hashlib.sha256(json.dumps([self.gold, values], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class RowReader:
    """Turns rows of a task into items without examples before them."""

    task: Task
    rule: Rule

    @cached_property
    def wording(self) -> Wording:
        """How the rule reads rows."""
        return self.task.rules[self.rule]

    @cached_property
    def _values(self) -> dict[str, Callable[..., Any]]:
        wording = self.wording
        used = {"gold": self.task.gold, "choices": wording.choices, "description": wording.description}
        used |= {"context": wording.context, "contexts": wording.contexts, "continuation": wording.continuation}
        return {key: _compiled(value, f"{self.task.name}: {key}") for key, value in used.items() if value}

    def item(self, row: Row, where: str, *, keep_equal: bool = False) -> ChoiceItem:
        """The item of a row.

        Args:
            row: the columns of the row, by the names of the hub's data set.
            where: how messages name the row.
            keep_equal: whether two choices may be equal.

        Raises:
            DataError: a column is missing or is of another kind, or the item cannot be measured.
        """
        missing = [name for name in self.task.needs if name not in row]
        if missing:
            raise DataError(
                f"{where} has no {missing[0]!r}, but {', '.join(map(repr, row))}",
                f"Rows of {self.task.name} need {', '.join(self.task.needs)}, and the gold label.",
            )
        choices = self._texts("choices", row, where)
        if "contexts" in self._values:
            contexts = self._texts("contexts", row, where)
            scored = (self._text("continuation", row, where),) * len(contexts)
        else:
            contexts, scored = (self._text("context", row, where),) * len(choices), choices
        subject = str(row.get(self.task.subject, "")) if self.task.subject else ""
        continuations = tuple(self.wording.delimiter + text for text in scored)
        name = str(row.get("id", where))
        item = ChoiceItem(name, contexts, continuations, choices, self._gold(row, where), subject)
        check_item(item, where, keep_equal=keep_equal, may_be_empty=self.wording.may_be_empty)
        return item

    def description(self, row: Row, where: str) -> str:
        """The text before everything else. "" if the rule has none."""
        return self._text("description", row, where) if "description" in self._values else ""

    def _gold(self, row: Row, where: str) -> int:
        try:
            value = self._values["gold"](**row)
        except Exception as error:  # in as many ways as there are expressions
            value, why = None, reason_of(error)
        else:
            why = "it is missing" if isinstance(value, jinja2.Undefined) else f"it is {short(value)}"
        if isinstance(value, bool) or not isinstance(value, int):
            raise DataError(
                f"{where} has no gold label that can be read: {why}",
                "Give the label of the right choice. Test sets without labels cannot be measured.",
            )
        return value

    def _text(self, key: str, row: Row, where: str) -> str:
        value = self._evaluate(key, row, where)
        if not isinstance(value, str):
            raise DataError(f"{where}: its {key} is {kind_of_value(value)}, not text", "Correct the row.")
        return value

    def _texts(self, key: str, row: Row, where: str) -> tuple[str, ...]:
        value = self._evaluate(key, row, where)
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise DataError(f"{where}: its {key} are {short(value)}, not a list of texts", "Correct the row.")
        return tuple(value)

    def _evaluate(self, key: str, row: Row, where: str) -> Any:
        try:
            return self._values[key](**row)
        except Exception as error:  # in as many ways as there are expressions
            raise DataError(f"{where}: its {key} cannot be made: {reason_of(error)}", "Correct the row.") from error


def unbracketed(text: str) -> str:
    """A text of HellaSwag without the marks of the WikiHow articles that it comes from, as its authors clean it.

    >>> unbracketed("Warm up. [title] Stretch your legs [step] slowly")
    'Warm up.. Stretch your legs slowly'
    """
    return re.sub(r"\[.*?\]", "", text.replace(" [title]", ". ")).replace("  ", " ")


def _environment() -> jinja2.sandbox.SandboxedEnvironment:
    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    environment.filters["unbracketed"] = unbracketed
    return environment


def _compiled(expression: str, where: str) -> Callable[..., Any]:
    try:
        return cast("Callable[..., Any]", _environment().compile_expression(str(expression), undefined_to_none=False))
    except jinja2.TemplateSyntaxError as error:
        raise DataError(f"task {where} is no expression of Jinja: {error}", "Correct the task's file.") from error


def task_names() -> list[str]:
    """The names of the tasks that come with the package."""
    files = resources.files("palmette.choice").joinpath("tasks").iterdir()
    return sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml"))


def load_task(name: str) -> Task:
    """A task by its name, or from a YAML file of the same form.

    Raises:
        DataError: there is no such task, or its file does not hold one.
    """
    if name.endswith((".yaml", ".yml")):
        try:
            text = expand(name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"cannot read the task {name!r}: {reason_of(error)}", "Check the path.") from error
        return _parsed(text, expand(name).stem)
    names = task_names()
    if name not in names:
        near = difflib.get_close_matches(name.lower().replace("-", "_"), names, n=1, cutoff=0.5)
        hint = f"Did you mean {near[0]}? " if near else ""
        ways = f"There are {', '.join(names)}, and YAML files of your own."
        raise DataError(f"there is no task {name!r}", hint + ways)
    file = resources.files("palmette.choice").joinpath("tasks", f"{name}.yaml")
    return _parsed(file.read_text(encoding="utf-8"), name)


def _parsed(text: str, name: str) -> Task:
    try:
        values = parse_yaml(text)
    except ValueError as error:
        raise DataError(f"task {name!r} is not YAML: {reason_of(error)}", "Correct its file.") from error
    given = _checked(values, Task, name, without=("name",))
    needs, rules = given["needs"], given["rules"]
    if not isinstance(needs, list) or not all(isinstance(column, str) for column in needs):
        raise DataError(f"task {name!r}: 'needs' is {in_yaml(needs)}", "Give a list of columns, such as [question].")
    if not isinstance(rules, dict) or not rules:
        raise DataError(f"task {name!r} has no rules", f"Give it at least one of {', '.join(RULES)}.")
    wordings = {}
    for rule, wording in rules.items():
        if rule not in RULES:
            raise DataError(f"task {name!r} has the unknown rule {rule!r}", f"Known are {', '.join(RULES)}.")
        wordings[str(rule)] = Wording(**_checked(wording, Wording, f"{name}, {rule}"))
        if wordings[str(rule)].headline not in _HEADLINES:
            raise DataError(f"task {name!r} has an unknown headline", f"Known are {', '.join(_HEADLINES)}.")
    return replace(Task(**{**given, "name": name, "needs": tuple(needs)}), rules=wordings)


def _checked(values: object, kind: type, name: str, without: Sequence[str] = ()) -> dict[str, Any]:
    """The keys of a YAML map, which must be the fields of a data class."""
    if not isinstance(values, dict):
        raise DataError(f"task {name!r} is {kind_of_value(values)}", "Give a map of keys.")
    known = [field.name for field in fields(kind) if field.name not in without]
    needed = [field.name for field in fields(kind) if field.name not in without and _is_needed(field)]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise DataError(f"task {name!r} has the unknown key {key!r}", f"{hint}Known are: {', '.join(known)}.")
    missing = [key for key in needed if key not in values]
    if missing:
        raise DataError(f"task {name!r} lacks {missing[0]!r}", f"It needs {', '.join(needed)}.")
    values = {key: str(value) if key == "gold" and type(value) is int else value for key, value in values.items()}
    kinds = {field.name: _KINDS.get(str(field.type), object) for field in fields(kind)}
    for key, value in values.items():
        if not isinstance(value, kinds[key]):
            wanted = "text" if kinds[key] is str else "true or false"
            raise DataError(f"task {name!r}: {key!r} is {in_yaml(value)}, not {wanted}", "Correct its file.")
    return values


def _is_needed(field: Any) -> bool:
    from dataclasses import MISSING

    return field.default is MISSING and field.default_factory is MISSING
