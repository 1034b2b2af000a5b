"""Columns that the tables of several stores have in common."""

from __future__ import annotations

import sqlalchemy as sa

ROW_ID = sa.BigInteger().with_variant(sa.Integer, "sqlite")  # SQLite counts up no other type
