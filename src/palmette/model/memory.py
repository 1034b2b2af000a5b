"""How the process takes memory from the system."""

from __future__ import annotations

import ctypes

# <malloc.h> of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # the most that glibc accepts on 64-bit systems


def keep_freed_memory() -> bool:
    """Let glibc keep memory that was freed for what comes next, instead of giving large blocks back to the system.

    By default every activation is mapped anew, page by page, which can take longer than computing it. What is kept is at most what
    was in use at once. Holds for the whole process, until it ends.

    Returns:
        Whether it was done: not under another C library than glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
