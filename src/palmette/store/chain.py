"""Migrations of the tables of one kind of store. Several kinds may share a database."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from palmette.errors import DataError


@dataclass(frozen=True, slots=True)
class Chain:
    """The migrations of some tables.

    Attributes:
        package: the package whose folder `migrations/versions` holds them.
        version_table: the table that holds the revision. Other programs may keep tables of their own in a team's
            database, with migrations of their own.
        what: what the tables hold, for messages: "the review".
    """

    package: str
    version_table: str
    what: str

    def migrate(self, connection: sa.Connection, target: str = "head") -> None:
        """Bring the tables of a database to a version. The caller holds a lock and a transaction.

        Args:
            connection: the connection, inside a transaction.
            target: the revision. "base" removes the tables with all that is in them.

        Raises:
            DataError: the tables are of a newer version of palmette.
        """
        config = self._config(connection)
        current = self.version(connection)
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if current is not None and current not in known:
            raise DataError(
                f"{self.what} was written by a newer version of palmette (its tables have revision {current})",
                "Update palmette: pip install --upgrade palmette.",
            )
        if target == "base":
            command.downgrade(config, target)
        elif current != target:
            command.upgrade(config, target)

    def newest(self) -> str | None:
        """The revision that this version of palmette works with."""
        return ScriptDirectory.from_config(self._config(None)).get_current_head()

    def version(self, connection: sa.Connection) -> str | None:
        """The revision of the tables of a database. None if it has none of them."""
        return MigrationContext.configure(connection, opts={"version_table": self.version_table}).get_current_revision()

    def _config(self, connection: sa.Connection | None) -> Config:
        config = Config()
        folders = {
            "script_location": resources.files("palmette.store").joinpath("migrations"),
            "version_locations": resources.files(self.package).joinpath("migrations", "versions"),
        }
        for name, folder in folders.items():
            # A percent sign begins an interpolation in Alembic's configuration.
            config.set_main_option(name, str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "newline")  # so folders may have blanks in their names
        attributes: dict[str, Any] = {"connection": connection, "version_table": self.version_table}
        config.attributes.update(attributes)
        return config
