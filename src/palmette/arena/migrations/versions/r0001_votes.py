"""Events of votes, to which rows are only ever added."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from palmette.store import append_only

revision = "0001"
down_revision = None

_KEYS = {"arena_events": "id"}
_FUNCTION = "arena_append_only"


def upgrade() -> None:
    """Make the table, and the triggers that refuse any change of a row."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "arena_events",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("voter", sa.Text, nullable=False),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("about", number, sa.ForeignKey("arena_events.id")),
        sa.Column("pair", sa.JSON(none_as_null=True)),
        sa.Column("outcome", sa.Text),
        sa.Column("seconds", sa.Double),
        sqlite_autoincrement=True,
    )
    append_only.guard(_KEYS, _FUNCTION)


def downgrade() -> None:
    """Remove everything."""
    append_only.drop(_KEYS, _FUNCTION)
