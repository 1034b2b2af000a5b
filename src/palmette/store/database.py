"""An open database whose tables are only ever added to.

The databases themselves refuse every change of a row, by triggers (`store/append_only.py`). A transaction ends when its
rows are on the disk: SQLite runs with a write-ahead log and synchronous=FULL, and PostgreSQL waits for its own log.
Writers take turns, so ids grow in the order of the commits, and a reader that continues after the last id it saw never
misses a row. Reading does not wait for writers.

Not covered: a database on a network drive. SQLite needs a local disk, so a team uses PostgreSQL.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import sqlalchemy as sa

from palmette.lock import locked
from palmette.store.chain import Chain
from palmette.store.engine import connect, describe, explain, is_postgresql

_BATCH = 1000  # rows that are read at a time
_LOCK = 7_040_817  # key of the lock that writers of a PostgreSQL database take in turns


class Database:
    """A database that is open. Threads may share it. Use `open`."""

    chain: ClassVar[Chain]

    def __init__(self, engine: sa.Engine, where: str) -> None:
        self._engine, self._where = engine, where

    @classmethod
    def open(cls, where: str | Path) -> Self:
        """Open a store, or make one, and bring its tables to the present version.

        Args:
            where: the path of an SQLite file, or the URL of a database: postgresql://USER@HOST/NAME.

        Raises:
            DataError: the file is no store, or was written by a newer version of palmette.
            RunError: the database cannot be reached or written.
        """
        name = describe(where)
        engine = connect(where)
        store = cls(engine, name)
        try:
            with store._alone():
                with store._reading() as connection:
                    current = cls.chain.version(connection)
                if current != cls.chain.newest():
                    with store._writing() as connection:
                        cls.chain.migrate(connection)
        except BaseException:
            engine.dispose()
            raise
        return store

    def close(self) -> None:
        """Close all connections. What was appended stays."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows_after(self, table: sa.Table, after: int) -> Iterator[Any]:
        """The rows of a table with an id above `after`, by rising id, read in portions."""
        while True:
            query = sa.select(table).where(table.c.id > after).order_by(table.c.id).limit(_BATCH)
            with self._reading() as connection:
                rows = connection.execute(query).all()
            yield from rows
            if len(rows) < _BATCH:
                return
            after = rows[-1].id

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from opening the same store while it is migrated."""
        if is_postgresql(self._engine):
            yield  # `_writing` holds the lock of the database
            return
        assert self._engine.url.database is not None
        with locked(Path(self._engine.url.database), wait=True):
            yield

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sa.Connection]:
        """A transaction that writes. Others wait for it to end."""
        engine = self._engine.execution_options(writes=True)
        with explain(self._where), engine.begin() as connection:
            if is_postgresql(self._engine):
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            yield connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        with explain(self._where), self._engine.connect() as connection:
            yield connection
