"""Addresses of Ray clusters as `RAY_ADDRESS` gives them. Imports no Ray."""

from __future__ import annotations

import re

ALLOWED = "give host:port of the head, e.g. 10.0.0.1:6379, ray://host:10001, auto or local"


def address_problem(address: str) -> str | None:
    """Return in a line why `RAY_ADDRESS` cannot be joined whatever answers there, or None."""
    if address in ("", "auto", "local"):
        return None
    found = f"RAY_ADDRESS: found {address}; "
    scheme, separator, rest = address.rpartition("://")
    if scheme in ("http", "https"):
        return (
            f"{found}the address of a dashboard, which runs jobs but cannot be joined; "
            f"{ALLOWED}, or submit the command itself: ray job submit --address {address} -- ..."
        )
    if separator and scheme != "ray":
        return f"{found}{ALLOWED}"
    host, colon, port = rest.rstrip("/").rpartition(":")
    if not colon or not host or (":" in host and not re.fullmatch(r"\[[0-9A-Fa-f:.%\w]+\]", host)):
        return f"{found}the port is missing; {ALLOWED}"
    if not port.isdecimal() or not 0 < int(port) < 65536 or address != address.strip():
        return f"{found}{ALLOWED}"
    return None
