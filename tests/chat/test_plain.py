from __future__ import annotations

import asyncio
import gzip
import http.client
import io
import socket
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import uvloop
from aiohttp import web

from if_factory.chat.address import read_address
from if_factory.chat.base import Completion, ServerGone, Transient
from if_factory.chat.http import OpenAIBackend
from if_factory.chat.plain import PlainTransport, Reply
from tests.chat.conftest import Serve, answer, request

# A body of any kind, in every form in which servers end one.
BODY = b'{"choices": [1, 2, 3]}\n'
WHOLE = {
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 23\r\nContent-Type: application/json\r\n\r\n" + BODY,
    "empty": b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\n" + BODY[:5] + b"\r\n12\r\n" + BODY[5:]
              + b"\r\n0\r\n\r\n",
    "trailer": b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n17\r\n" + BODY + b"\r\n0\r\nX-Sum: 1\r\n\r\n",
    "no reason": b"HTTP/1.1 204\r\nServer: x\r\n\r\n",
    "not modified": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 23\r\n\r\n",
    "a header without a value": b"HTTP/1.1 200 OK\r\nX:\r\nContent-Length:23\r\n\r\n" + BODY,
    "another protocol offered": b"HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 23\r\n\r\n"
                                + BODY,
    "said before": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n"
                   b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Length: 23\r\n\r\n" + BODY,
    "last": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 23\r\n\r\n" + BODY,
    "old": b"HTTP/1.0 200 OK\r\nContent-Length: 23\r\n\r\n" + BODY,
    "old and kept": b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 23\r\n\r\n" + BODY,
}
TO_THE_END = {
    "until it closes": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n" + BODY,
    "old, until it closes": b"HTTP/1.0 502 Bad Gateway\r\n\r\n" + BODY,
}


def by_the_library(data: bytes) -> tuple[int, bytes, bool]:
    """Status, body and whether the connection stays, as the standard library reads them."""

    class Socket:
        def __init__(self, data: bytes) -> None:
            self.data = data

        def makefile(self, _mode: str) -> io.BytesIO:
            return io.BytesIO(self.data)

    found = http.client.HTTPResponse(Socket(data), method="POST")  # type: ignore[arg-type]
    found.begin()
    while found.status < 200:  # of interim replies the library skips only 100
        found = http.client.HTTPResponse(Socket(found.fp.read()), method="POST")  # type: ignore[arg-type]
        found.begin()
    return found.status, found.read(), not found.will_close


@pytest.mark.parametrize("name", WHOLE)
def test_a_reply_is_read_as_the_standard_library_reads_it_wherever_it_is_cut(name: str) -> None:
    data = WHOLE[name]
    expected = by_the_library(data)
    for at in range(len(data) + 1):
        reply = Reply()
        pieces = [piece for piece in (data[:at], data[at:]) if piece]
        assert [reply.feed(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
        assert (reply.status, reply.content(), reply.stays_open) == expected
    reply = Reply()
    assert [reply.feed(bytes([byte])) for byte in data] == [False] * (len(data) - 1) + [True]
    assert (reply.status, reply.content(), reply.stays_open) == expected


@pytest.mark.parametrize("name", TO_THE_END)
def test_a_reply_without_a_length_is_whole_when_the_connection_ends(name: str) -> None:
    reply = Reply()
    assert not reply.feed(TO_THE_END[name])
    assert reply.ended()
    assert (reply.status, reply.content(), reply.stays_open) == by_the_library(TO_THE_END[name])


@pytest.mark.parametrize("name", WHOLE)
def test_a_reply_that_is_cut_off_is_not_whole(name: str) -> None:
    for at in range(len(WHOLE[name])):
        reply = Reply()
        assert not (WHOLE[name][:at] and reply.feed(WHOLE[name][:at]))
        assert not reply.ended()


@pytest.mark.parametrize("data", [
    b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/2 200\r\n\r\n", b"HTTP/2.0 200\r\n\r\n", b"HTTP/0.9 200 x\r\n\r\n",
    b"HTTP/1.1 abc\r\n\r\n", b"HTTP/1.1 2000 x\r\n\r\n", b"HTTP/1.1 099 x\r\n\r\n", b"HTTP/1.1 101 Switching\r\n\r\n",
    b"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 104 Upload Resumption Supported\r\nContent-Length: 5\r\n\r\nHTTP/",
    # RFC 9112: a bare LF may be refused (2.2), so may both lengths (6.3); no space before the colon (5.1). A folded
    # header would have to be joined (5.2); the parser does so only where it is told to be lax about headers.
    b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX: a\r\n b: c\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabcd", b"HTTP/1.1 200 OK\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000])
def test_what_is_no_reply_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        Reply().feed(data)


def test_a_head_without_end_is_refused_also_in_small_pieces() -> None:
    reply = Reply()
    assert not reply.feed(b"HTTP/1.1 200 OK\r\n")
    with pytest.raises(ValueError, match="without end"):
        any(reply.feed(b"X-%d: y\r\n" % i) for i in range(10_000))


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("more", [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong", b"HTTP", b"x", b"\0", b"\r\n\r\nx"])
def test_what_comes_behind_a_reply_does_not_change_it_and_ends_the_connection(name: str, more: bytes) -> None:
    expected = Reply()
    assert expected.feed(WHOLE[name])
    reply = Reply()
    assert reply.feed(WHOLE[name] + more)
    assert (reply.status, reply.headers, reply.content()) == (expected.status, expected.headers, expected.content())
    assert not reply.stays_open


def test_an_empty_line_around_a_reply_is_passed_over() -> None:
    reply = Reply()
    assert reply.feed(b"\r\n" + WHOLE["length"] + b"\r\n")
    assert (reply.status, reply.content(), reply.stays_open) == (200, BODY, True)


def test_trailers_are_no_headers() -> None:
    reply = Reply()
    assert reply.feed(WHOLE["trailer"].replace(b"X-Sum: 1", b"Content-Encoding: gzip"))
    assert reply.headers == {"transfer-encoding": "Chunked"}


@pytest.mark.parametrize("coding", [b"gzip", b"chunked, gzip", b"xchunked"])
def test_a_body_in_a_coding_that_was_not_asked_for_is_never_whole(coding: bytes) -> None:
    reply = Reply()
    assert not reply.feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: %b\r\n\r\n0\r\n\r\n" % coding)
    assert not reply.ended()


@pytest.mark.parametrize(("packing", "packed"), [
    ("gzip", gzip.compress(BODY, mtime=0)), ("x-gzip", gzip.compress(BODY, mtime=0)), ("deflate", zlib.compress(BODY)),
    ("deflate", zlib.compressobj(wbits=-15).compress(b"") + zlib.compress(BODY, wbits=-15)), ("identity", BODY)])
def test_a_packed_body_is_unpacked(packing: str, packed: bytes) -> None:
    reply = Reply()
    assert reply.feed(b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b"
                      % (packing.encode(), len(packed), packed))
    assert reply.content() == BODY


@pytest.mark.parametrize(("packing", "packed"), [
    ("gzip", b"no gzip"), ("br", BODY), ("gzip", gzip.compress(BODY, mtime=0)[:-9])])
def test_a_body_that_cannot_be_unpacked_is_refused(packing: str, packed: bytes) -> None:
    reply = Reply()
    assert reply.feed(b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n%b"
                      % (packing.encode(), len(packed), packed))
    with pytest.raises(ValueError, match=r"."):
        reply.content()


# ---------------------------------------------------------------- connections

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Counts its connections; ``talk`` has each of them."""

    def __init__(self, talk: Talk) -> None:
        self.talk, self.connections = talk, 0

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def transport(self, limit: int = 4, seconds: float = 5) -> PlainTransport:
        address = read_address(f"http://127.0.0.1:{self.port}/v1")
        return PlainTransport(address, {"X-Key": "k"}, limit=limit, seconds=seconds, where="here")


async def one(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """Head and body of the next request."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return head, await reader.readexactly(int(length or 0))


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_requests_go_one_after_the_other_over_one_connection(new_loop: Any) -> None:
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head, body = await one(reader)
            heads.append(head)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async def main() -> None:
        async with Server(talk) as server:
            transport = server.transport()
            for i in range(3):
                body = b"%d" % i * 300_000 ** (i == 2)
                headers = {"content-length": f"{len(body)}"}
                assert await transport.request("POST", "/v1/x?y=1", body) == (200, headers, body)
            assert (await transport.request("GET", "/v1/models", None))[2] == b""
            await transport.close()
            assert server.connections == 1
            assert heads[0].startswith(b"POST /v1/x?y=1 HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % server.port)
            assert b"\r\nX-Key: k\r\n" in heads[0]
            assert b"content-length" not in heads[3].lower()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())


async def test_a_connection_that_the_server_closed_meanwhile_is_not_used_again() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await one(reader)
        writer.write(OK)

    async with Server(talk) as server:
        transport = server.transport()
        for _ in range(3):
            assert (await transport.request("POST", "/", b""))[0] == 200
            await asyncio.sleep(0.02)
        await transport.close()
        assert server.connections == 3


async def test_a_connection_with_bytes_that_nobody_asked_for_is_not_used_again() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await one(reader)
            writer.write(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong")

    async with Server(talk) as server:
        transport = server.transport()
        for _ in range(3):
            assert (await transport.request("POST", "/", b""))[2] == b"ok"
        await transport.close()
        assert server.connections == 3


async def test_a_connection_whose_request_was_answered_before_it_was_read_is_not_used_again() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.sleep(0.2)

    async with Server(talk) as server:
        transport = server.transport(seconds=1)
        for _ in range(2):
            assert (await transport.request("POST", "/", b"x" * 30_000_000))[0] == 413
        await transport.close()
        assert server.connections == 2


async def test_a_connection_that_was_idle_for_long_is_not_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await one(reader)
            writer.write(OK)

    monkeypatch.setattr("if_factory.chat.plain._IDLE_SECONDS", 0.0)
    async with Server(talk) as server:
        transport = server.transport()
        for _ in range(2):
            await transport.request("POST", "/", b"")
        await transport.close()
        assert server.connections == 2


async def test_the_answer_to_a_cancelled_request_goes_to_no_other() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            _, body = await one(reader)
            if body == b"slow":
                await asyncio.sleep(0.1)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    async with Server(talk) as server:
        transport = server.transport(limit=1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(transport.request("POST", "/", b"slow"), 0.03)
        assert (await transport.request("POST", "/", b"fast"))[2] == b"fast"
        await asyncio.sleep(0.1)
        assert (await transport.request("POST", "/", b"next"))[2] == b"next"
        await transport.close()


async def test_no_more_connections_than_the_limit() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await one(reader)
            await asyncio.sleep(0.005)
            writer.write(OK)

    async with Server(talk) as server:
        transport = server.transport(limit=3)
        answers = await asyncio.gather(*(transport.request("POST", "/", b"x") for _ in range(20)))
        assert {body for _, _, body in answers} == {b"ok"}
        await transport.close()
        assert server.connections == 3


@pytest.mark.parametrize(("sent", "reason"), [
    (b"", "connection_lost"), (OK[:-1], "connection_lost"), (b"SSH-2.0\r\n\r\n", "connection_lost"),
    (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", "connection_lost"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "connection_lost")])
async def test_an_answer_that_is_not_whole_is_a_lost_connection(sent: bytes, reason: str) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await one(reader)
        writer.write(sent)

    async with Server(talk) as server:
        transport = server.transport()
        with pytest.raises(Transient, match=reason):
            await transport.request("POST", "/", b"")
        await transport.close()


async def test_too_late_is_a_timeout_also_in_the_middle_of_an_answer() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await one(reader)
        writer.write(OK[:-1])
        await asyncio.sleep(5)

    async with Server(talk) as server:
        transport = server.transport(seconds=0.05)
        for _ in range(2):
            with pytest.raises(Transient, match="timeout"):
                await transport.request("POST", "/", b"")
        with pytest.raises(Transient, match="timeout"):
            await transport.request("POST", "/", b"", 0.01)
        await transport.close()


async def test_a_host_is_reached_at_the_address_that_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name may have addresses at which nothing listens, the first of them too."""
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await one(reader)
        writer.write(OK)

    async with Server(talk) as server:
        transport = server.transport()
        stream = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            addresses = [(*stream, closed.getsockname()), (*stream, ("127.0.0.1", server.port))]

            async def resolve(*_: object, **__: object) -> list[Any]:
                return addresses

            monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
            assert (await transport.request("POST", "/", b""))[2] == b"ok"
            addresses[:] = [addresses[0], addresses[0]]
            with pytest.raises(ServerGone, match="no server answers"):
                await server.transport().request("POST", "/", b"")
        await transport.close()


async def test_an_unknown_host_is_a_server_that_is_gone() -> None:
    transport = PlainTransport(read_address("http://no-such-host.invalid:8000/v1"), {}, limit=1, seconds=20, where="w")
    with pytest.raises(ServerGone, match="no server answers"):
        await transport.request("GET", "/", None)


# ---------------------------------------------------------------- which transport


@pytest.mark.parametrize("user", ["", "me:pass%40word@"])
async def test_a_name_in_the_url_authenticates_and_the_answer_is_the_same(serve: Serve, user: str) -> None:
    seen: list[str | None] = []

    async def handler(r: web.BaseRequest) -> web.Response:
        seen.append(r.headers.get("Authorization"))
        return answer("hi") if r.query_string == "v=1" else web.Response(status=400)

    backend = OpenAIBackend((await serve(handler)).replace("://", f"://{user}") + "?v=1", "fake")
    assert await backend.chat(request()) == Completion("hi", "stop", 3, 2)
    assert isinstance(backend._transport, PlainTransport) is not bool(user)
    await backend.close()
    assert seen == (["Basic bWU6cGFzc0B3b3Jk"] if user else [None])
    assert "pass" not in backend.base_url
