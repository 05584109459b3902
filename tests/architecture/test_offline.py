"""The guard of ``tests/conftest.py`` holds: tests reach this machine and no other."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest


def test_another_host_cannot_be_reached() -> None:
    with socket.socket() as outside, pytest.raises(AssertionError, match="tests run offline"):
        outside.connect(("192.0.2.1", 80))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_can(host: str) -> None:
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect((host, server.getsockname()[1]))


def test_the_users_cache_is_left_alone() -> None:
    assert Path.home() / ".cache" not in Path(os.environ["OPENVLA_CACHE"]).parents
