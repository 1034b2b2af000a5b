"""Stores to which rows are only ever added, in SQLite or PostgreSQL."""
