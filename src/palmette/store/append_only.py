"""Triggers that refuse every change of a row, for migrations."""

from __future__ import annotations

from collections.abc import Mapping

from alembic import op


def guard(keys: Mapping[str, str], function: str) -> None:
    """Make tables append-only.

    Args:
        keys: the primary key of each table.
        function: the name of the function that PostgreSQL's triggers call.
    """
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgresql(keys, function)
    else:
        _guard_sqlite(keys)


def drop(keys: Mapping[str, str], function: str) -> None:
    """Remove tables that `guard` guards, the last one first."""
    for table in reversed(list(keys)):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"DROP FUNCTION {function}()")


def _guard_sqlite(keys: Mapping[str, str]) -> None:
    for table, key in keys.items():
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


def _guard_postgresql(keys: Mapping[str, str], function: str) -> None:
    op.execute(
        f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'rows of % are only ever added', TG_TABLE_NAME; END$$"
    )
    for table in keys:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {function}()"
        )
