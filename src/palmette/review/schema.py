"""The tables of a review, and their migrations. `migrations/versions` says how they came about."""

from __future__ import annotations

from importlib import resources
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from palmette.errors import DataError

# Other programs may keep tables of their own in a team's database, with migrations of their own.
VERSION_TABLE = "review_version"
METADATA = sa.MetaData()
_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts up no other type

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
    sa.Column("id", _ID, primary_key=True, autoincrement=True),
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
    sa.Column("undoes", _ID, sa.ForeignKey("review_events.id")),
    sqlite_autoincrement=True,
)


def migrate(connection: sa.Connection, target: str = "head") -> None:
    """Bring the tables of a database to a version. The caller holds a lock and a transaction.

    Args:
        connection: the connection, inside a transaction.
        target: the revision. "base" removes the tables with all that is in them.

    Raises:
        DataError: the tables are of a newer version of palmette.
    """
    config = _config(connection)
    current = version(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise DataError(
            f"the review was written by a newer version of palmette (its tables have revision {current})",
            "Update palmette: pip install --upgrade palmette.",
        )
    if target == "base":
        command.downgrade(config, target)
    elif current != target:
        command.upgrade(config, target)


def newest() -> str | None:
    """The revision that this version of palmette works with."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def version(connection: sa.Connection) -> str | None:
    """The revision of the tables of a database. None if it has none of them."""
    return MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()


def _config(connection: sa.Connection | None) -> Config:
    config = Config()
    # A percent sign begins an interpolation in Alembic's configuration.
    folder = str(resources.files("palmette.review").joinpath("migrations"))
    config.set_main_option("script_location", folder.replace("%", "%%"))
    attributes: dict[str, Any] = {"connection": connection, "version_table": VERSION_TABLE}
    config.attributes.update(attributes)
    return config
