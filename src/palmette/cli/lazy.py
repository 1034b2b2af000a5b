"""Groups whose commands are imported when they are called, and help pages that need only typer.

`palmette --help` has to be quick, so a group knows its commands from a table. The module of a command is imported when
the command is called, or for its own help. Help is laid out by typer's plain formatter, in colour where there is a
terminal. Rich's boxes would take as long to import as everything else together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, cast

import typer
from typer.core import CompletionItem, TyperCommand, TyperGroup  # type: ignore[attr-defined]  # it has no public place
from typer.main import get_command, get_group


@dataclass(frozen=True)
class Command:
    """A command of a table.

    Attributes:
        target: "module:function", the module below `palmette.cli`.
        help: its line in the group's help. A test checks that it is the first line of the function's docstring.
        hidden: whether the group's help leaves it out.
        arguments: arguments of the function at `target`, which then returns the command's function. Without arguments,
            `target` is the command's function itself.
    """

    target: str
    help: str
    hidden: bool = False
    arguments: tuple[str, ...] = ()

    def function(self) -> Any:
        """The command's function, its module imported."""
        function = _imported(self.target)
        return function(*self.arguments) if self.arguments else function


@dataclass(frozen=True)
class Group:
    """A group of a table.

    Attributes:
        help: its line in its own help and in that of its parent.
        commands: its commands by name, in the order of its help. It may also be "module:function". The function returns
            them, and is imported when the group is called or its help is shown.
        hidden: whether the help of its parent leaves it out.
        target: "module:function", what the group does by itself. The options of the function are the group's. It takes
            the context first, and is called before a command of the group too: then `invoked_subcommand` of the context
            names the command.
    """

    help: str
    commands: Mapping[str, Command] | str
    hidden: bool = False
    target: str = ""

    def table(self) -> Mapping[str, Command]:
        """Its commands."""
        if not isinstance(self.commands, str):
            return self.commands
        commands: Mapping[str, Command] = _imported(self.commands)()
        return commands


def _imported(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(f"palmette.cli.{module}"), name)


Table = Mapping[str, Command | Group]

# What an option's value is called, by a word in its Python type.
_VALUES = {"int": "N", "float": "NUMBER"}
# The values that a number may have, as typer writes them at the end of a help.
_RANGE = re.compile(r"(  \[(?:[^\]]*; )?)(?:([\d.e-]+)<=)?x(?:>=([\d.e-]+)|<=([\d.e-]+))?((?:; required)?\])\Z")
_SETTINGS: dict[str, Any] = {"add_completion": False, "pretty_exceptions_enable": False, "rich_markup_mode": None}


_PlainFormatter: Any = typer.Context.formatter_class  # the module that defines it is private


class _HelpFormatter(_PlainFormatter):  # type: ignore[misc]  # of a class that is known by its place only
    """The plain formatter with bold headings and coloured names.

    `typer.echo` drops colours where there is no terminal.
    """

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        super().write_usage(typer.style(prog, bold=True), args, prefix or typer.style("Usage: ", bold=True))

    def write_heading(self, heading: str) -> None:
        self.write(typer.style(f"{heading}:", bold=True) + "\n")

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        # Blanks after a name align the columns of several lists. They are not coloured.
        named = [(typer.style(name.rstrip(), fg="cyan") + name[len(name.rstrip()) :], text) for name, text in rows]
        super().write_dl(named, col_max, col_spacing)


class _Context(typer.Context):
    formatter_class = _HelpFormatter


class PlainCommand(TyperCommand):
    """A command whose help is laid out by the plain formatter, and says in words what each option takes."""

    context_class = _Context

    def get_params(self, ctx: Any) -> list[Any]:
        """The options and arguments. Those whose values have no name get one by their type."""
        return _with_names(super().get_params(ctx), ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments by their names, then the options with the names of their values."""
        _write_params(self.get_params(ctx), ctx, formatter)


def _with_names(params: list[Any], ctx: Any) -> list[Any]:
    """Options and arguments, in which values without a name have got one by their type."""
    for param in params:
        if param.metavar is None and not getattr(param, "is_flag", False):
            param.metavar = param.name.upper() if param.param_type_name == "argument" else _metavar(param, ctx)
    return params


def _write_params(params: list[Any], ctx: Any, formatter: Any) -> None:
    """Write arguments by their names, then options with the names of their values."""
    rows: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
    for param in params:
        record = param.get_help_record(ctx)
        if record is not None:
            kind, (name, text) = param.param_type_name, record
            # After the name of an argument, typer writes its type in Python.
            name = name if kind == "option" else param.display_name_raw + ("..." if param.nargs != 1 else "")
            rows[kind].append((name, _RANGE.sub(_in_words, text)))
    for kind, found in rows.items():
        if found:
            with formatter.section(f"{kind.capitalize()}s"):
                formatter.write_dl(found)


def _metavar(option: Any, ctx: Any) -> str:
    """The name of an option's value: its choices, or what kind of value it is."""
    shown = str(option.display_type(ctx)).strip("<>")
    if "|" in shown:
        return shown
    return next((name for word, name in _VALUES.items() if word in shown), "TEXT")


def _in_words(range_of_values: re.Match[str]) -> str:
    """The values that a number may have, in words.

    >>> _RANGE.sub(_in_words, "Samples.  [default: 2; x>=1]"), _RANGE.sub(_in_words, "Share.  [0.0<=x<=1.0; required]")
    ('Samples.  [default: 2; at least 1]', 'Share.  [0.0 to 1.0; required]')
    """
    before, first, least, high, after = range_of_values.groups()
    low = first or least
    words = f"at least {low}" if high is None else f"at most {high}" if low is None else f"{low} to {high}"
    return f"{before}{words}{after}"


class LazyGroup(TyperGroup):
    """A group that knows its commands from tables, one for each section of its help."""

    context_class = _Context
    sections: ClassVar[Mapping[str, Table]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.table = {name: entry for table in self.sections.values() for name, entry in table.items()}
        self.commands = cast("MutableMapping[str, Any]", _Commands(self.table))

    def get_params(self, ctx: Any) -> list[Any]:
        """The options. Flags are False where they are not given, since typer would import pydantic to read None."""
        params = super().get_params(ctx)
        for option in params:
            if getattr(option, "is_flag", False) and option.default is None:
                option.default = False
        return _with_names(params, ctx)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # as typer calls it
        """The names of the commands. Nothing is imported."""
        return list(self.table)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the names and one-line helps of the commands, section by section, then the options.

        Nothing is imported.
        """
        widest = max((len(name) for name, entry in self.table.items() if not entry.hidden), default=0)
        for title, table in self.sections.items():
            if rows := [(name.ljust(widest), entry.help) for name, entry in table.items() if not entry.hidden]:
                with formatter.section(title):
                    formatter.write_dl(rows)
        _write_params(self.get_params(ctx), ctx, formatter)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the arguments name.

        Raises:
            typer.exceptions.TyperException: there is no such command. The message names the commands that may be meant,
                from the whole program.
        """
        try:
            return self._click_resolve_command(ctx, args)
        except typer.exceptions.TyperException as error:
            if args and args[0] not in self.table:
                from palmette.cli.suggestions import suggestion

                error.message = f"{error.message.rstrip('.')}. {suggestion(args, _path(ctx), _root_table(ctx))}".strip()
            raise

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """What the shell offers after a group: its commands with their helps, and its options. Nothing is imported."""
        shown = [(name, entry) for name, entry in self.table.items() if name.startswith(incomplete)]
        commands = [CompletionItem(name, help=entry.help) for name, entry in shown if not entry.hidden]
        return [*commands, *super(TyperGroup, self).shell_complete(ctx, incomplete)]


def _path(ctx: Any) -> tuple[str, ...]:
    """The names of the groups that lead to a context, without the program's own."""
    return (*_path(ctx.parent), ctx.info_name) if ctx.parent is not None else ()


def _root_table(ctx: Any) -> Table:
    table: Table = ctx.find_root().command.table
    return table


class _Commands(Mapping[str, Any]):
    """The commands of a table, each made when it is asked for."""

    def __init__(self, table: Table) -> None:
        self._table, self._made = table, dict[str, Any]()

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = _make(name, self._table[name])
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)


def _make(name: str, entry: Command | Group) -> Any:
    if isinstance(entry, Group):
        if not entry.target:
            return get_group(lazy_app({"Commands": entry.table()}, name=name, help=entry.help))
        app = lazy_app({"Commands": entry.table()}, name=name, invoke_without_command=True, no_args_is_help=False)
        app.callback()(_imported(entry.target))
        return get_group(app)
    single = typer.Typer(**_SETTINGS)
    single.command(name, cls=PlainCommand, hidden=entry.hidden)(entry.function())
    return get_command(single)


def lazy_app(sections: Mapping[str, Table], **settings: Any) -> typer.Typer:
    """A typer application that knows its commands from tables.

    Args:
        sections: the commands and groups by name, in the order of its help, below the headings of its help.
        settings: other settings of `typer.Typer`.
    """
    group = type("Group", (LazyGroup,), {"sections": sections})
    context = {"max_content_width": 110}
    usual = {"no_args_is_help": True, "context_settings": context}
    return typer.Typer(cls=group, **{**usual, **_SETTINGS, **settings})
