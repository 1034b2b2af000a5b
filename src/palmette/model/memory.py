"""How the process takes memory from the system and gives it back."""

from __future__ import annotations

import ctypes
import os

import psutil

# <malloc.h> of glibc
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # the most that glibc accepts on 64-bit systems

# Freed memory is given back once resident memory exceeds its noted height by this factor.
_SLACK = 1.05


# oneDNN keeps what it compiled for the last matrix products of different shapes, 1024 by default.
KERNELS_KEPT = "ONEDNN_PRIMITIVE_CACHE_CAPACITY"
_FEW = "64"


def keep_few_kernels() -> None:
    """Let oneDNN keep fewer compiled kernels, before the first matrix product of the process.

    A server reads texts of all lengths, and each length has kernels of its own. With 1024 of them, memory grows by 0.9
    GB over some 800 lengths, and with 64 by 0.5 GB. Compiling one takes less than a millisecond. A number that the user
    has set stays.
    """
    os.environ.setdefault(KERNELS_KEPT, _FEW)


class ResidentLimit:
    """Keeps resident memory near a height that it has reached once.

    Blocks of many sizes leave holes that nothing fits into, which add up over a long run. Giving them back takes a
    moment, and the pages have to be mapped again, so it is done only after memory has grown.
    """

    def __init__(self) -> None:
        self._limit: float | None = None

    def reached(self) -> None:
        """Note that memory is now about as high as it needs to be."""
        self._limit = _SLACK * _resident()

    def hold(self) -> bool:
        """Give freed memory back to the system if memory has grown beyond that height. Returns whether it did."""
        return self._limit is not None and _resident() > self._limit and give_back()


def give_back() -> bool:
    """Give all freed memory back to the system. Returns whether there was any. Only glibc can do it."""
    trim = getattr(_c_library(), "malloc_trim", None)
    return trim is not None and bool(trim(0))


def _c_library() -> ctypes.CDLL | None:
    """The C library that this process runs on. None on Windows."""
    try:
        return ctypes.CDLL(None)
    except (OSError, TypeError):
        return None


def _resident() -> int:
    """Bytes of resident memory."""
    return int(psutil.Process().memory_info().rss)


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for later use, instead of giving large blocks back to the system.

    By default every activation is mapped again, page by page, which can take longer than computing it. The setting
    holds until the process ends. `ResidentLimit` limits how much memory that takes over time.

    Returns:
        Whether it was set. Other C libraries than glibc do not have the setting.
    """
    mallopt = getattr(_c_library(), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)) and bool(mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))
