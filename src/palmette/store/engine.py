"""Connections to a database of verdicts or votes, and what its errors mean."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from palmette.errors import DataError, PalmetteError, RunError, reason_of
from palmette.files import expand

_SECONDS = 30.0  # that a writer waits for its turn
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={int(1000 * _SECONDS)}", "foreign_keys=ON")
_POSTGRES = "A team's database needs: pip install 'palmette[postgres]'."
_URL = "Give the path of a file, or a URL such as postgresql://USER@HOST/NAME."


def connect(where: str | Path) -> sa.Engine:
    """An engine for a path or a URL. Nothing is opened yet.

    Raises:
        DataError: the URL is of another kind of database, or cannot be read.
        RunError: the folder of the file does not exist, or psycopg is missing.
    """
    if "://" not in str(where):
        return _sqlite(expand(str(where)))
    try:
        url = sa.make_url(str(where))
    except exc.ArgumentError as error:
        raise DataError(f"{describe(where)} is not the URL of a database", _URL) from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise DataError(f"{describe(where)}: verdicts and votes are not kept in {url.get_backend_name()}", _URL)
    try:
        return sa.create_engine(
            url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, connect_args={"connect_timeout": 10}
        )
    except ImportError as error:
        raise RunError(f"{describe(where)} needs psycopg, which is not installed", _POSTGRES) from error


def describe(where: str | Path) -> str:
    """A path or URL for messages, without a password.

    >>> describe("postgresql://ann:secret@db/verdicts")
    'postgresql://ann@db/verdicts'
    >>> describe("postgresql://ann:s@cret@db/verdicts?password=secret&sslmode=require")
    'postgresql://ann@db/verdicts?sslmode=require'
    """
    if "://" not in str(where):
        return str(where)
    without = re.sub(r"(?<=://)([^/@:]*):[^/]*@", r"\1@", str(where))
    return re.sub(r"(?<=[?&])password=[^&]*&?", "", without).rstrip("?&")


def is_postgresql(engine: sa.Engine) -> bool:
    """Whether it is PostgreSQL, and not SQLite."""
    return engine.dialect.name == "postgresql"


@contextlib.contextmanager
def explain(where: str) -> Iterator[None]:
    """Turn the errors of a database into errors of one line, which begin with `where`.

    Raises:
        DataError: the file is no database.
        RunError: the database cannot be reached, read or written.
    """
    try:
        yield
    except PalmetteError:
        raise
    except exc.SQLAlchemyError as error:
        problem = reason_of(getattr(error, "orig", None) or error)
        if "file is not a database" in problem:
            raise DataError(
                f"{where} is not a store of verdicts or votes", "Name another file. It is made if missing."
            ) from error
        raise RunError(f"{where} cannot be used: {problem}", _way_out(problem)) from error


def _way_out(problem: str) -> str:
    for sign, way_out in (
        ("disk is full", "Free some space. Everything that was confirmed is kept."),
        ("I/O error", "Free some space, and check the disk. Everything that was confirmed is kept."),
        ("locked", "Close the other program that holds it."),
        ("unable to open", "Check the path, and that its folder exists and can be written."),
        ("readonly", "Check that the file and its folder can be written."),
        ("only ever added", "Rows of a store are never changed. Append an event instead."),
        ("resolve host", "Check the name of the server."),
        ("connection", "Check that the database server runs, and its host and port."),
        ("authentication", "Check the user and the password."),
        ("does not exist", "Create the database first: createdb NAME."),
    ):
        if sign in problem:
            return way_out
    return "Check the database."


def _sqlite(path: Path) -> sa.Engine:
    if not path.absolute().parent.is_dir():
        raise RunError(f"cannot open {path}: its folder does not exist", f"Create it: mkdir -p {path.parent}")
    if path.is_dir():
        raise RunError(f"cannot open {path}: it is a folder", "Name a file in it, such as verdicts.db.")
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path.absolute())), connect_args={"timeout": _SECONDS}
    )
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)
    return engine


def _set_up(connection: Any, _: Any) -> None:
    # sqlite3 would begin transactions by itself, and too late: `_begin` does it.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: sa.Connection) -> None:
    # A transaction that reads first and writes later could not wait for another writer, so it takes its turn at once.
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get("writes") else "BEGIN")
