"""The store of votes in SQLite and in PostgreSQL, by itself and beside a review."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from palmette.arena import schema
from palmette.arena.desk import Desk
from palmette.arena.events import Event, Shown
from palmette.arena.folder import read_arena
from palmette.arena.store import VoteStore
from palmette.arena.votes import read_votes
from palmette.errors import RunError
from palmette.review.store import Store
from palmette.store.engine import connect
from tests.support.arena import make_arena
from tests.support.reviewing import document

SHOWN = Shown("вопрос", "elm", "org/пихта", "1" * 64, "2" * 64, 1 / 3, named=True)


def test_events_come_back_as_they_were(where: str) -> None:
    given = [
        Event("shown", datetime.now(UTC), "ann", "s", shown=SHOWN),
        Event("vote", datetime.now(UTC), "ann", "s", 1, said="both bad", seconds=1.25),
        Event("revealed", datetime.now(UTC), "ann", "s", 2),
    ]
    with VoteStore.open(where) as store:
        assert store.append(given) == [1, 2, 3]
    with VoteStore.open(where) as store:
        found = list(store.events())
        assert [one.id for one in found] == [1, 2, 3]
        assert [(one.kind, one.time, one.about, one.shown, one.said, one.seconds) for one in found] == [
            (one.kind, one.time, one.about, one.shown, one.said, one.seconds) for one in given
        ]
        assert [one.id for one in store.events(after=2)] == [3]


def test_the_migrations_make_the_tables_that_the_code_knows(where: str) -> None:
    VoteStore.open(where).close()
    engine = connect(where)
    with engine.connect() as connection:
        options = {"version_table": schema.CHAIN.version_table}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), schema.METADATA) == []
    with engine.execution_options(writes=True).begin() as connection:
        schema.CHAIN.migrate(connection, "base")
    with engine.connect() as connection:
        assert set(sa.inspect(connection).get_table_names()) <= {schema.CHAIN.version_table}
    engine.dispose()


def test_the_database_refuses_changes(where: str) -> None:
    with VoteStore.open(where) as store:
        store.append([Event("shown", datetime.now(UTC), "ann", "s", shown=SHOWN)])
        for change in ("UPDATE arena_events SET voter = 'bob'", "DELETE FROM arena_events"):
            with pytest.raises(RunError, match="only ever added"), store._writing() as connection:
                connection.execute(sa.text(change))
        assert [one.voter for one in store.events()] == ["ann"]


def test_an_arena_and_a_review_share_a_database(where: str) -> None:
    with Store.open(where) as verdicts, VoteStore.open(where) as votes:
        verdicts.add_documents([document()])
        votes.append([Event("shown", datetime.now(UTC), "ann", "s", shown=SHOWN)])
    with Store.open(where) as verdicts, VoteStore.open(where) as votes:
        assert len(verdicts.questions()) == 3
        assert len(list(votes.events())) == 1


def test_votes_of_a_store_elsewhere_are_ranked(where: str, tmp_path: Path) -> None:
    folder = make_arena(tmp_path / "arena")
    with VoteStore.open(where) as store:
        desk = Desk(store, read_arena(folder))
        asked = desk.ask("ann", "s")
        assert asked is not None
        desk.vote("ann", "s", asked.key, "right", 1.0)
    [vote] = read_votes(str(folder), store=where).votes
    assert (vote.left, vote.right, vote.outcome) == (asked.shown.left, asked.shown.right, "right")
