"""The tables of a review, and their migrations. `migrations/versions` says how they came about."""

from __future__ import annotations

import sqlalchemy as sa

from palmette.store.chain import Chain
from palmette.store.columns import ROW_ID

CHAIN = Chain("palmette.review", "review_version", "the review")
METADATA = sa.MetaData()

documents = sa.Table(
    "review_documents",
    METADATA,
    sa.Column("sha256", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
questions = sa.Table(
    "review_questions",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("document_sha256", sa.Text, sa.ForeignKey("review_documents.sha256"), nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("answers", sa.JSON, nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
)
audit = sa.Table(
    "review_audit",
    METADATA,
    sa.Column("question", sa.Text, sa.ForeignKey("review_questions.id"), primary_key=True),
    sa.Column("sampling_probability", sa.Double, nullable=False),
    sa.Column("time", sa.Text, nullable=False),
)
events = sa.Table(
    "review_events",
    METADATA,
    sa.Column("id", ROW_ID, primary_key=True, autoincrement=True),
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
    sa.Column("undoes", ROW_ID, sa.ForeignKey("review_events.id")),
    sqlite_autoincrement=True,
)
