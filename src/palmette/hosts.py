"""Addresses of machines: whether one leads to this machine alone."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether an address, or a name, leads to this machine alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "localhost", "::1", "0.0.0.0", "desk", "10.0.0.2")]
    [True, True, True, True, False, False, False]
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
