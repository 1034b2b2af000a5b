"""The changes that the table of votes went through. `VoteStore.open` applies them, through Alembic."""
