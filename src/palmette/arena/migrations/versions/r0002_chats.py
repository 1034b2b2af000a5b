"""Conversations with two models at once, beside answers to prompts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column. Rows that are there hold no conversation."""
    op.add_column("arena_events", sa.Column("chat", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    """Remove it."""
    op.drop_column("arena_events", "chat")
