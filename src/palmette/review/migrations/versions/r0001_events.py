"""Documents, questions, the audit set and events, to which rows are only ever added."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from palmette.store import append_only

revision = "0001"
down_revision = None

_KEYS = {"review_documents": "sha256", "review_questions": "id", "review_audit": "question", "review_events": "id"}
_FUNCTION = "review_append_only"


def upgrade() -> None:
    """Make the tables, and the triggers that refuse any change of a row."""
    _make_documents()
    _make_events()
    append_only.guard(_KEYS, _FUNCTION)


def downgrade() -> None:
    """Remove everything."""
    append_only.drop(_KEYS, _FUNCTION)


def _make_documents() -> None:
    op.create_table(
        "review_documents",
        sa.Column("sha256", sa.Text, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
    )
    op.create_table(
        "review_questions",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("document_sha256", sa.Text, sa.ForeignKey("review_documents.sha256"), nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("answers", sa.JSON, nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
    )
    op.create_table(
        "review_audit",
        sa.Column("question", sa.Text, sa.ForeignKey("review_questions.id"), primary_key=True),
        sa.Column("sampling_probability", sa.Double, nullable=False),
        sa.Column("time", sa.Text, nullable=False),
    )


def _make_events() -> None:
    op.create_table(
        "review_events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("time", sa.Text, nullable=False),
        sa.Column("annotator", sa.Text, nullable=False),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("question", sa.Text, sa.ForeignKey("review_questions.id"), nullable=False),
        sa.Column("document_sha256", sa.Text, sa.ForeignKey("review_documents.sha256"), nullable=False),
        sa.Column("prompt_sha256", sa.Text, nullable=False),
        sa.Column("run", sa.Text, nullable=False),
        sa.Column("run_sha256", sa.Text, nullable=False),
        sa.Column("shown", sa.JSON(none_as_null=True)),
        sa.Column("verdict", sa.Text),
        sa.Column("answer", sa.JSON(none_as_null=True)),
        sa.Column("seconds", sa.Double),
        sa.Column("undoes", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.ForeignKey("review_events.id")),
        sqlite_autoincrement=True,
    )
