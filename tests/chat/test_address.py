from __future__ import annotations

import sys

import pytest
from yarl import URL

from if_factory.chat.address import Address, read_address


@pytest.mark.parametrize("url", [
    "http://localhost:8000/v1", "http://127.0.0.1:65535/v1/", "https://api.example.com/openai/v1", "http://h", "http://h/",
    "https://h:443/v1", "http://h:80/v1", "http://H.Example/v1 x", "http://me:p%40ss@h:8000/v1?api-version=2&a=b+c",
    "http://[::1]:8000/v1", "http://bücher.de/ü?x=ü", "http://h/a%20b/../c", "HTTP://h/v1", "http://h/v1#part",
    "http://h//v1", "http://h/./v1", "http://h/.v1", "http://h/v1.5", "http://h_x/v1", "http://h-.x/v1", "http://a.b./v1",
    "http://h:0/v1", "http://h/v1/chat/completions", "https://h/openai/deployments/gpt/v1?v=1"])
def test_a_url_has_the_parts_that_yarl_finds(url: str) -> None:
    given, found = URL(url), read_address(url)
    path = given.raw_path.rstrip("/").removesuffix("/chat/completions")
    assert (found.scheme, found.host, found.port, found.path) == (given.scheme, given.raw_host, given.port, path)
    whole = given.with_path(path + "/models", encoded=True).with_query(given.query)
    assert found.target("/models") == whole.raw_path_qs
    assert found.origin == str(given.with_user(None).origin())


@pytest.mark.parametrize("url", ["", "localhost:8000/v1", "ftp://h/v1", "http://", "http:///v1", "http://[bad/v1",
                                 "http://h:99999/v1", "http://h:x/v1", "http://xn--a/v1"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_address(url)


def test_a_plain_url_needs_no_yarl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yarl", None)
    assert read_address("http://node-7.cluster:8000/v1/") == Address("http", "node-7.cluster", 8000, "/v1")


def test_name_and_password_stand_apart() -> None:
    assert read_address("http://me:p%40ss@h/v1").user == "me:p%40ss@"
    assert read_address("http://me@h/v1").user == "me@"
    assert read_address("http://me@h/v1").origin == "http://h"
