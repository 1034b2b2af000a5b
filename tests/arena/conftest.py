"""Stores in both databases."""

from tests.support.databases import postgresql, where  # noqa: F401  # fixtures
