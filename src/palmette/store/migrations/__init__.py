"""What Alembic executes for every kind of store. The migrations lie with the tables that they are about."""
