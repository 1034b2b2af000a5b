"""The table of votes. `migrations/versions` says how it came about."""

from __future__ import annotations

import sqlalchemy as sa

from palmette.store.chain import Chain
from palmette.store.columns import ROW_ID

CHAIN = Chain("palmette.arena", "arena_version", "the arena")
METADATA = sa.MetaData()

events = sa.Table(
    "arena_events",
    METADATA,
    sa.Column("id", ROW_ID, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
    sa.Column("voter", sa.Text, nullable=False),
    sa.Column("session", sa.Text, nullable=False),
    sa.Column("about", ROW_ID, sa.ForeignKey("arena_events.id")),
    sa.Column("pair", sa.JSON(none_as_null=True)),
    sa.Column("outcome", sa.Text),
    sa.Column("seconds", sa.Double),
    sa.Column("chat", sa.JSON(none_as_null=True)),
    sqlite_autoincrement=True,
)
