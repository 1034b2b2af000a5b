"""Fixtures that give a new database of each kind."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from palmette.store.engine import connect
from tests.support.postgresql import HOW_TO_INSTALL, find_postgresql, running_postgresql


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a PostgreSQL database on loopback."""
    if (programs := find_postgresql()) is None:
        pytest.skip(HOW_TO_INSTALL)
    # Not below pytest's own folders, which only the user that runs the tests may enter.
    folder = Path(tempfile.mkdtemp(prefix="palmette-postgresql-"))
    folder.chmod(0o755)
    try:
        with running_postgresql(programs, folder) as url:
            yield url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The path of a new SQLite file, and the URL of an empty PostgreSQL database."""
    if request.param == "sqlite":
        yield str(tmp_path / "store.db")
        return
    url = request.getfixturevalue("postgresql")
    yield url
    engine = connect(url)
    with engine.begin() as connection:
        # As somebody who may do anything would: the tables refuse to be emptied.
        connection.execute(sa.text("DROP SCHEMA public CASCADE"))
        connection.execute(sa.text("CREATE SCHEMA public"))
    engine.dispose()
