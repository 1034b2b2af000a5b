"""The changes that the tables of a review went through. `Store.open` applies them, through Alembic."""
