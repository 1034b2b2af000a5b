"""`palmette chat`: a conversation with a model in the terminal, or through a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.options import DEFAULT_MODEL, AttentionOption, ModelOption, SeedOption

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.inference.conversation import Conversation, Reply

_HELP = """\
:new   begin a new conversation
:quit  end (or Ctrl-D)
:help  show this
Ctrl-C stops a reply that is being written."""
_CUT = {"length": "(cut after {} tokens: --max-new-tokens allows more)", "interrupted": "(stopped after {} tokens)"}


def chat(
    model: ModelOption = DEFAULT_MODEL,
    system: Annotated[
        str | None, typer.Option("--system", help="A system message at the beginning, which says how to reply.")
    ] = None,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature", min=0.0, help="How freely replies vary. 0 always takes the likeliest word, 1 draws freely."
        ),
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option("--top-p", max=1.0, help="Draw from the likeliest tokens with this total probability.")
    ] = 1.0,
    max_new_tokens: Annotated[
        int, typer.Option("--max-new-tokens", min=1, help="Longest reply, in tokens. A longer one is cut.")
    ] = 256,
    seed: SeedOption = 0,
    attention: AttentionOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each reply, instead of its text.")
    ] = False,
) -> None:
    """Talk with a model in the terminal.

    The model is one that was fine-tuned on conversations, or any chat model. Replies are free text. They are not copied
    from a document, and may be wrong. Without a terminal, each line of standard input is a message, and each gets a
    reply. A line that is :new begins a new conversation.
    """
    from palmette.cli.console import stderr
    from palmette.inference.names import resolve_answerer
    from palmette.startup import quick_imports

    opened = resolve_answerer(model)
    with quick_imports(freeze=True):
        from palmette.inference.answerer import open_answerer
        from palmette.inference.conversation import Conversation, Generation

    generation = Generation(temperature, top_p, max_new_tokens, seed)
    answerer = open_answerer(opened, attention=attention, calibrated=False)
    recipe = answerer.source.recipe if answerer.source is not None else None
    if recipe is not None and recipe.data.kind == "qa":
        stderr().print(
            f"{model} was fine-tuned on questions about documents, so its replies may be answers in JSON. To ask about "
            "a document, use palmette ask."
        )
    conversation = Conversation(answerer.loaded.model, answerer.loaded.tokenizer, system=system, generation=generation)
    _talk(conversation, as_json=as_json, interactive=sys.stdin.isatty())


def _talk(conversation: Conversation, *, as_json: bool, interactive: bool) -> None:
    """Reply to message after message, until there are no more."""
    from palmette.cli.console import print_json, stderr
    from palmette.errors import PalmetteError

    news = stderr()
    if interactive:
        news.print("Write a message. :help shows what else there is.")
    for message in _typed() if interactive else _piped():
        if message == ":quit":
            return
        if message == ":new":
            conversation.restart()
            if interactive:
                news.print("A new conversation.")
        elif message == ":help":
            news.print(_HELP)
        else:
            try:
                reply = conversation.reply(message, (lambda _: None) if as_json else _write)
            except PalmetteError as error:
                if not interactive:
                    raise
                news.print(f"{error} :new begins a new conversation.")
                continue
            if as_json:
                print_json({"message": message, "reply": reply.text, **_without_text(reply)})
            else:
                typer.echo()
            if reply.finish != "end" and not as_json:
                news.print(_CUT[reply.finish].format(reply.num_tokens), style="dim")


def _without_text(reply: Reply) -> dict[str, object]:
    return {key: value for key, value in asdict(reply).items() if key != "text"}


def _write(text: str) -> None:
    """Write a piece of a reply at once. Control characters become blanks, since a terminal would act on them."""
    sys.stdout.write("".join(c if c.isprintable() or c == "\n" else " " for c in text))
    sys.stdout.flush()


def _piped() -> Iterator[str]:
    """The lines of standard input that are not blank.

    Raises:
        DataError: a line is not UTF-8.
    """
    from palmette.errors import DataError

    for number, raw in enumerate(sys.stdin.buffer, start=1):
        try:
            line = raw.decode("utf-8").strip()
        except UnicodeDecodeError as error:
            raise DataError(
                f"line {number} of standard input is not UTF-8 at its byte {error.start}", "Save it as UTF-8."
            ) from error
        if line:
            yield line


def _typed() -> Iterator[str]:
    """The lines that somebody types, with editing and a history. Ctrl-D ends them, and Ctrl-C begins a line again."""
    from palmette.cache import cache_folder
    from palmette.cli.answer.history import history, read_line

    with history(cache_folder() / "chat_history"):
        while True:
            try:
                line = read_line().strip()
            except EOFError:
                typer.echo()
                return
            except KeyboardInterrupt:
                typer.echo()
                continue
            if line:
                yield line
