"""Documents, questions, the audit set and events, to which rows are only ever added."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_KEYS = {"review_documents": "sha256", "review_questions": "id", "review_audit": "question", "review_events": "id"}


def upgrade() -> None:
    """Make the tables, and the triggers that refuse any change of a row."""
    _make_documents()
    _make_events()
    make = _guard_postgresql if op.get_bind().dialect.name == "postgresql" else _guard_sqlite
    make()


def downgrade() -> None:
    """Remove everything."""
    for table in reversed(_KEYS):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION review_append_only()")


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


def _guard_sqlite() -> None:
    for table, key in _KEYS.items():
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER {table}_no_{change.lower()} BEFORE {change} ON {table} "
                f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are only ever added'); END"
            )
        # INSERT OR REPLACE removes the old row without the trigger of DELETE.
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {key} = NEW.{key}) "
            f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are only ever added'); END"
        )


def _guard_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION review_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'rows of % are only ever added', TG_TABLE_NAME; END$$"
    )
    for table in _KEYS:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION review_append_only()"
        )
