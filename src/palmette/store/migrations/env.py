"""Runs migrations on the connection that `store/chain.py` hands over. Alembic executes this file."""

from alembic import context

if hasattr(context, "config"):  # Alembic is at work, and this is no import of every module of the package
    attributes = context.config.attributes
    context.configure(
        connection=attributes["connection"], version_table=attributes["version_table"], render_as_batch=True
    )
    # The caller holds the lock and the transaction, so that a migration is applied as a whole or not at all.
    context.run_migrations()
