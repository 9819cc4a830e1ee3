"""Where a server is: the parts of a base URL."""

from __future__ import annotations

import re
from typing import NamedTuple

# What most people write; the rest is read by yarl, whose import takes as long as 50 requests.
_PLAIN = re.compile(r"(?P<scheme>https?)://(?P<host>[a-z][a-z0-9-]*(?:\.[a-z0-9-]+)*|\d{1,3}(?:\.\d{1,3}){3})"
                    r"(?::(?P<port>[1-9]\d{3,4}))?(?P<path>(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*)/?", re.ASCII)
_PORTS = {"http": 80, "https": 443}


class Address(NamedTuple):
    """A base URL in the form in which it is sent: quoted, international names in ASCII.

    Attributes:
        path: without a slash at its end and without ``/chat/completions``.
        query: without its question mark.
        user: name and password as they stand before the host, with the ``@``; empty if there are none.
    """

    scheme: str
    host: str
    port: int
    path: str
    query: str = ""
    user: str = ""

    @property
    def origin(self) -> str:
        """Scheme, host, and the port where it is not the scheme's own."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def target(self, path: str) -> str:
        """What is asked of the host for ``path`` below the address."""
        return f"{self.path}{path}?{self.query}" if self.query else f"{self.path}{path}"


def read_address(url: str) -> Address:
    """Raises:
        ValueError: it is no http or https URL.
    """
    plain = _PLAIN.fullmatch(url)
    if plain and "xn--" not in plain["host"] and (port := int(plain["port"] or _PORTS[plain["scheme"]])) < 65536:
        return Address(plain["scheme"], plain["host"], port, plain["path"].removesuffix("/chat/completions"))
    from yarl import URL

    given = URL(url)
    if given.scheme not in _PORTS or not given.host or not given.raw_host:
        raise ValueError("no http or https URL")
    user = f"{given.raw_user or ''}:{given.raw_password}" if given.raw_password is not None else given.raw_user
    return Address(given.scheme, given.raw_host, _PORTS[given.scheme] if given.port is None else given.port,
                   given.raw_path.rstrip("/").removesuffix("/chat/completions"), given.raw_query_string,
                   f"{user}@" if user is not None else "")
