"""`palmette arena sample`, `palmette arena serve` and `palmette arena export`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from palmette.cli.judge.ranking import VotesOption
from palmette.cli.options import DATA, MODEL, PATH, SeedOption
from palmette.cli.packages import check_web_packages
from palmette.cli.serving import PortOption, login, serve_pages

if TYPE_CHECKING:  # commands import what they need when they run
    from palmette.arena.chats import Speaker
    from palmette.arena.folder import Arena

ArenaArgument = Annotated[
    Path, typer.Argument(help="The folder that `palmette arena sample` wrote.", **{**PATH, "metavar": "FOLDER"})
]
ServedArgument = Annotated[
    Path,
    typer.Argument(
        help="The folder that `palmette arena sample` wrote. With --chat it may be a new one.",
        **{**PATH, "metavar": "FOLDER"},
    ),
]
ChatOption = Annotated[
    list[str] | None,
    typer.Option(
        help="A model, a run, or a .yaml file with an endpoint, for free chats with two of them at once. Give it "
        "twice or more often.",
        **MODEL,
    ),
]
TemperatureOption = Annotated[
    float, typer.Option(min=0.0, help="How freely replies are drawn. 0 takes the likeliest token each time.")
]
LengthOption = Annotated[int, typer.Option(min=1, help="Longest reply, in tokens.")]


def arena_sample(
    model: Annotated[
        list[str],
        typer.Option(
            help="A model or run, a .jsonl file of answers, or a .yaml file with an endpoint. May be repeated.",
            **MODEL,
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the arena. The same command continues there, or adds models.", **PATH)
    ],
    prompts: Annotated[
        str,
        typer.Option(
            help="Prompts: a .jsonl file, a table or a hub data set with a column 'prompt', or builtin: 30 in English "
            "and 30 in Russian.",
            **{**DATA, "metavar": "PROMPTS"},
        ),
    ] = "builtin",
    temperature: TemperatureOption = 0.7,
    max_new_tokens: LengthOption = 512,
    seed: SeedOption = 0,
) -> None:
    """Let several models answer the same prompts, for votes.

    One model is loaded at a time, and every answer is kept as it comes.
    """
    from palmette.cli.console import stderr, stdout
    from palmette.numbers import count
    from palmette.studies.arena_answers import Replying, sample_answers

    found = sample_answers(prompts, model, out, Replying(temperature, max_new_tokens, seed))
    console = stdout()
    for name, cost in found.costs.items():
        console.print(f"{name} cost {cost:.4f}.")
    console.print(f"{count(len(found.entries), 'model')}, {count(found.num_prompts, 'prompt')}: {out}")
    if len(found.entries) < 2:
        stderr().print("Votes need two models. Run it again with another --model.")


def arena_serve(
    folder: ServedArgument,
    voter: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Name of a person who votes. May be repeated. Each gets a link."),
    ] = None,
    store: VotesOption = None,
    with_named: Annotated[
        bool, typer.Option("--with-named", help="Also show answers that tell which model wrote them. Votes are marked.")
    ] = False,
    chat: ChatOption = None,
    temperature: TemperatureOption = 0.7,
    max_new_tokens: LengthOption = 512,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Address to listen at. Any but this machine's own needs --voter.")
    ] = "127.0.0.1",
    port: PortOption = 8766,
) -> None:
    """Vote in the browser on which of two answers is better, without seeing the models' names.

    Each vote takes one key, and is kept before the next pair is shown. Names are shown after a vote, on request. With
    --chat, people can also talk with two models at once, and vote on the conversation.
    """
    check_web_packages("the arena needs packages", "alembic", "fastapi", "jinja2", "sqlalchemy", "uvicorn")
    from palmette.arena.folder import VOTES, is_arena, write_entries
    from palmette.arena.store import VoteStore
    from palmette.cli.console import stderr
    from palmette.web.arena.opening import open_arena
    from palmette.web.serving import check_people, known_names, listen

    names = voter or []
    check_people(names, host, "voter")
    arena = _arena(folder, chatting=bool(chat))
    speakers = _speakers(chat or [], temperature, max_new_tokens)
    if not is_arena(folder):
        folder.mkdir(parents=True)
        write_entries(folder, [])
    kept = store or str(folder / VOTES)
    with contextlib.closing(listen(host, port)) as opened, VoteStore.open(kept) as votes:
        room = open_arena(
            votes,
            arena,
            voters=names or [login()],
            names=known_names(host),
            port=opened.getsockname()[1],
            with_named=with_named,
            speakers=speakers,
        )
        for line in _remarks(room.desk.identical, room.desk.named, with_named=with_named):
            stderr().print(line)
        serve_pages(room.app, room.sessions, opened, host, "Votes", kept)


def _arena(folder: Path, *, chatting: bool) -> Arena:
    """The answers of a folder. Where people can chat there may be none, and the folder need not exist yet."""
    from palmette.arena.folder import Arena, is_arena, read_arena, read_entries
    from palmette.run import check_absent

    if chatting and not is_arena(folder):
        check_absent(folder)
    if chatting and not read_entries(folder):
        return Arena(folder, {}, {}, {})
    return read_arena(folder)


def _speakers(models: Sequence[str], temperature: float, max_new_tokens: int) -> Sequence[Speaker]:
    """The models of the free chat, loaded."""
    if not models:
        return []
    import secrets

    from palmette.studies.arena_answers import Replying
    from palmette.studies.live_models import open_speakers

    return open_speakers(models, Replying(temperature, max_new_tokens, secrets.randbits(31)))


def _remarks(identical: int, named: int, *, with_named: bool) -> list[str]:
    """What is not asked, and what is not blind."""
    from palmette.numbers import count

    lines = []
    if identical:
        lines.append(f"Not asked: {count(identical, 'pair')} of identical answers.")
    if named and with_named:
        lines.append(f"Not blind: {count(named, 'pair')} with an answer that tells its model. Rankings leave them out.")
    elif named:
        lines.append(f"Not asked: {count(named, 'pair')} with an answer that tells its model. --with-named shows them.")
    return lines


def arena_export(
    folder: ArenaArgument,
    out: Annotated[Path, typer.Option(help="File for the votes, as JSON Lines. It must not exist.", **PATH)],
    store: VotesOption = None,
) -> None:
    """Write the votes of an arena in FastChat's columns."""
    check_web_packages("the votes of an arena need packages", "alembic", "sqlalchemy")

    from palmette.arena.export import vote_rows
    from palmette.cli.console import stdout
    from palmette.numbers import count
    from palmette.run import check_absent, write_json_lines

    check_absent(out)
    rows = vote_rows(folder, store)
    write_json_lines(out, rows)
    stdout().print(f"{count(len(rows), 'vote')}: {out}")
