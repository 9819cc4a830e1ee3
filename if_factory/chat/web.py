"""Requests through aiohttp: TLS, a proxy, or a name and password in the URL. ``plain.py`` is for the others.

Imported only where it is needed: aiohttp loads this machine's certificates as it is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import aiohttp
from yarl import URL

from if_factory.chat.address import Address
from if_factory.chat.base import Transient
from if_factory.chat.plain import CONNECT_SECONDS, Answer, nobody_answers
from if_factory.errors import UserError


class WebTransport:
    """The same as ``plain.PlainTransport``, to any address.

    Args:
        proxy: the proxy from the environment that is to be used, for people; empty without one.
        clean: a text without the key.
    """

    def __init__(self, address: Address, headers: Mapping[str, str], *, limit: int, seconds: float, where: str,
                 proxy: str, clean: Callable[[str], str]) -> None:
        self._base = f"{address.scheme}://{address.user}{address.netloc}"
        self._where, self._proxy, self._clean = where, proxy, clean
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit), headers=dict(headers),
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=bool(proxy))  # looking for a proxy costs time on every request

    async def request(self, method: str, target: str, body: bytes | None, seconds: float | None = None) -> Answer:
        """As ``PlainTransport.request``.

        Raises:
            ServerGone, Transient: as there.
            UserError: no secure connection, or none through the proxy.
        """
        session, fix = self._session, "correct the proxy's variables, or name the server in $no_proxy"
        timeout = aiohttp.ClientTimeout(total=seconds) if seconds else session.timeout
        url = URL(self._base + target, encoded=True)
        try:
            # A redirected POST would become a GET.
            async with session.request(method, url, data=body, allow_redirects=False, timeout=timeout) as response:
                headers = {name.lower(): value for name, value in reversed([*response.headers.items()])}
                return response.status, headers, await response.read()
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorCertificateError) as e:
            raise UserError(f"no secure connection: {self._clean(str(e))}", where=self._where,
                            fix="check the certificate, or use http:// if the server has none") from None
        except aiohttp.ClientHttpProxyError as e:
            raise UserError(f"the proxy {self._proxy} refuses the connection (HTTP {e.status})",
                            where=self._where, fix=fix) from None
        except aiohttp.ClientProxyConnectionError as e:
            raise UserError(f"the proxy {self._proxy} does not answer: {e.os_error.strerror or e.os_error}",
                            where=self._where, fix=fix) from None
        except aiohttp.ClientConnectorError as e:
            raise nobody_answers(self._where, e.os_error) from None
        except TimeoutError:
            raise Transient("timeout") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise Transient("connection_lost") from None

    async def close(self) -> None:
        await self._session.close()
