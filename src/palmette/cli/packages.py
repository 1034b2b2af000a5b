"""Packages of extras, which commands need and --help does not."""

from __future__ import annotations

from importlib.util import find_spec


def check_web_packages(why: str, *names: str) -> None:
    """Check that packages of the extra `web` are installed. Arguments and errors are those of `check_packages`."""
    check_packages(why, "web", *names)


def check_packages(why: str, extra: str, *names: str) -> None:
    """Check that packages of an extra are installed.

    Args:
        why: what needs them, as the beginning of a message that ends in "that are not installed".
        extra: the extra.
        names: the packages.

    Raises:
        PalmetteError: some are missing.
    """
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        from palmette.errors import PalmetteError

        raise PalmetteError(
            f"{why} that are not installed: {', '.join(missing)}", f'Install them: pip install "palmette[{extra}]"'
        )
