"""Where a command's work is done: what is said of a Ray that is not there. Ray itself is in tests/e2e/test_ray.py."""

from __future__ import annotations

import socket

import pytest

from if_factory.api.engines import _require_listener


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
def test_an_address_where_nothing_listens_is_found_out_at_once(form: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: a connection is refused
        with pytest.raises(ConnectionRefusedError):
            _require_listener(form.format(taken.getsockname()[1]))


def test_a_listener_passes_and_so_do_addresses_that_ray_looks_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        _require_listener(f"127.0.0.1:{server.getsockname()[1]}")
    for address in ("auto", "local", "ray://named"):
        _require_listener(address)
