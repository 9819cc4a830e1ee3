"""HTTP/1.1 to a server that is asked directly: no TLS, no proxy. Everything else goes through ``web.py``.

Most servers of a long run stand in the same room, and a general client (aiohttp) takes more of the CPU than all the
rest of a request. Here a request is one write, its reply is read where it arrives (by httptools), and a connection
carries one request at a time and is kept for the next.
"""

from __future__ import annotations

import asyncio
import os
import socket
import zlib
from collections.abc import Mapping
from typing import Any, cast

from httptools import HttpParserError, HttpResponseParser

from if_factory.chat.address import Address
from if_factory.chat.base import ServerGone, Transient
from if_factory.chat.places import Places
from if_factory.version import __version__

CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 15.0  # after which a connection is not used again: something on the way may have forgotten it
_NAMES_SECONDS = 10.0  # for which a host's addresses are believed
_STAGGER = 0.25  # seconds after which the next of a host's addresses is tried beside the one before (RFC 8305)
_MOST_HEAD = 65536  # bytes of a reply's head

Answer = tuple[int, Mapping[str, str], bytes]  # status, headers by name in lower case, body


def nobody_answers(where: str, error: OSError) -> ServerGone:
    """For a connection that was not made."""
    # Of several addresses that all fail, the message is theirs one after the other: the number says it in short.
    said = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
    return ServerGone(f"no server answers: {said}", where=where,
                      fix="start the server or correct base_url, then run the same command again; "
                      "answers so far are kept")


class PlainTransport:
    """Requests to one host, over as many connections as ``limit`` at most.

    Args:
        headers: of every request; printable ASCII.
        limit: requests on the way at once; further ones wait.
        seconds: for one answer, from asking to the last byte, where a request names no other time.
        where: the server's address, for people.
    """

    def __init__(self, address: Address, headers: Mapping[str, str], *, limit: int, seconds: float,
                 where: str) -> None:
        self._host, self._port, self._where, self._seconds = address.host, address.port, where, seconds
        lines = {"Host": address.netloc, "Accept": "*/*", "Accept-Encoding": "gzip, deflate",
                 "User-Agent": f"if-factory/{__version__}", **headers}
        self._head = "".join(f"{name}: {value}\r\n" for name, value in lines.items()).encode("ascii")
        self._places = Places(limit)
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self._addresses: tuple[float, list[Any]] = 0.0, []

    async def request(self, method: str, target: str, body: bytes | None, seconds: float | None = None) -> Answer:
        """Status, headers and body. ``target`` is what stands behind the host in the URL; ``seconds`` as at the class.

        Raises:
            ServerGone: nothing listens there.
            Transient: no answer in time, or the connection was lost.
        """
        until = asyncio.get_running_loop().time() + (seconds or self._seconds)
        length = b"\r\n" if body is None else b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        sent = b"%b %b HTTP/1.1\r\n%b%b" % (method.encode(), target.encode("ascii"), self._head, length)
        try:
            async with self._places:
                reply = await self._ask(sent, until)
            return reply.status, reply.headers, reply.content()
        except TimeoutError:
            raise Transient("timeout") from None
        except (OSError, ValueError):
            raise Transient("connection_lost") from None

    async def close(self) -> None:
        for connection in list(self._open):
            connection.transport.abort()
        await asyncio.sleep(0)

    async def _ask(self, sent: bytes, until: float) -> Reply:
        loop = asyncio.get_running_loop()
        connection = self._waiting_one(loop.time()) or await self._connect(until)
        reply = connection.ask(sent)
        late = loop.call_at(until, connection.too_late)
        try:
            await reply
        except BaseException:  # cancelled too: what may still come belongs to nobody
            connection.transport.abort()
            raise
        finally:
            late.cancel()
        transport = connection.transport
        # An answer may come before all has been sent: then the server is not through with the request.
        if connection.reply.stays_open and not transport.is_closing() and not transport.get_write_buffer_size():
            connection.idle_since = loop.time()
            self._idle.append(connection)
        else:
            transport.abort()
        return connection.reply

    def _waiting_one(self, now: float) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.transport.is_closing():
                if now - connection.idle_since < _IDLE_SECONDS:
                    return connection
                connection.transport.close()
        return None

    async def _connect(self, until: float) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            addresses = self._known(loop.time())
            if not addresses:
                async with asyncio.timeout_at(until):
                    addresses = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
                self._addresses = loop.time(), addresses
            async with asyncio.timeout_at(min(until, loop.time() + CONNECT_SECONDS)):
                if len(addresses) == 1 and addresses[0][0] == socket.AF_INET:
                    transport, connection = await loop.create_connection(self._new_connection, *addresses[0][4])
                else:
                    from aiohappyeyeballs import start_connection  # a host with one address needs no race

                    sock = await start_connection(addresses, happy_eyeballs_delay=_STAGGER)
                    transport, connection = await loop.create_connection(self._new_connection, sock=sock)
        except OSError as e:
            if isinstance(e, TimeoutError) and e.errno is None:
                raise  # ours, not the network's
            raise nobody_answers(self._where, e) from None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return connection

    def _new_connection(self) -> _Connection:
        return _Connection(self._open)

    def _known(self, now: float) -> list[Any]:
        """The host's addresses, if they were looked up lately."""
        since, addresses = self._addresses
        return addresses if now - since < _NAMES_SECONDS else []


class _Connection(asyncio.Protocol):
    """One connection: at most one request on the way."""

    transport: asyncio.Transport

    def __init__(self, open_ones: set[_Connection]) -> None:
        self._open_ones = open_ones
        self._waiting: asyncio.Future[None] | None = None
        self.reply = Reply()
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by descent
        self._open_ones.add(self)

    def ask(self, sent: bytes) -> asyncio.Future[None]:
        """Done when ``reply`` is whole. ``TimeoutError`` after ``too_late``, ``ConnectionError`` if it never is."""
        self.reply = Reply()
        self._waiting = asyncio.get_running_loop().create_future()
        self.transport.write(sent)
        return self._waiting

    def data_received(self, data: bytes) -> None:
        waiting = self._waiting
        if waiting is None or waiting.done():  # nobody asked for it
            self.transport.abort()
            return
        try:
            if self.reply.feed(data):
                self._waiting = None
                waiting.set_result(None)
        except ValueError as e:
            self._fail(ConnectionError(str(e)))

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_ones.discard(self)
        if self._waiting is not None and exc is None and self.reply.ended():
            if not self._waiting.done():
                self._waiting.set_result(None)
        else:
            self._fail(ConnectionError("closed in the middle"))

    def too_late(self) -> None:
        self._fail(TimeoutError())

    def _fail(self, error: OSError) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error)


class Reply:
    """A reply as it arrives. ``feed`` it what comes until it says that it is whole.

    Attributes:
        status: of the reply; interim ones (100 and the like) are skipped.
        headers: by name in lower case.
        stays_open: the connection may carry another request.
    """

    __slots__ = ("_head", "_parser", "_parts", "_whole", "headers", "status", "stays_open")

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        self._head = 0  # bytes of it so far
        self._parts: list[bytes] = []
        self._whole = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.stays_open = False

    def feed(self, data: bytes) -> bool:
        """Whether the reply is whole now. Raises ``ValueError``: it is no HTTP/1 reply."""
        try:
            self._parser.feed_data(data)
        except HttpParserError as e:
            if not self._whole:
                raise ValueError(str(e)) from e
            self.stays_open = False  # there is more, which nobody asked for
        if self._whole:
            del self._parser  # which holds this reply: the two would wait for the garbage collector
        elif not self.status:
            self._head += len(data)
            if self._head > _MOST_HEAD:
                raise ValueError("a head without end")
        return self._whole

    def ended(self) -> bool:
        """Whether the reply is whole because the connection has ended."""
        return bool(self.status) and not self.headers.keys() & {"content-length", "transfer-encoding"}

    def content(self) -> bytes:
        """The body, unpacked. Raises ``ValueError``: it cannot be."""
        body, packing = b"".join(self._parts), self.headers.get("content-encoding", "").lower()
        if packing in ("", "identity") or not body:
            return body
        if packing not in ("gzip", "x-gzip", "deflate"):
            raise ValueError(f"content in {packing}")
        try:
            bare = packing == "deflate" and body[0] & 15 != 8  # some send it without zlib's frame
            return zlib.decompress(body, -15 if bare else 47)
        except zlib.error as e:
            raise ValueError(str(e)) from None

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._whole:
            raise ValueError("a second reply")

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.status:  # behind a chunked body: nothing that is needed
            return
        key, text, headers = name.decode("latin-1").lower(), value.decode("utf-8", "replace").strip(), self.headers
        headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 100 or status == 101 or self._parser.get_http_version() not in ("1.0", "1.1"):
            raise ValueError("another protocol")
        if status < 200:
            self.headers.clear()
        else:
            self.status = status

    def on_body(self, body: bytes) -> None:
        if not self.status:
            raise ValueError("an interim reply with a body")
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if self.status:
            self._whole = True
            self.stays_open = self._parser.should_keep_alive()
