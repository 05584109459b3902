from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from openvla_toolkit.catalog import tables
from openvla_toolkit.downloads import addresses, transfer
from openvla_toolkit.pipeline.convert import Job, convert
from openvla_toolkit.testing import DotsEpisodesConfig
from tests.downloads.host import Host, serving


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A server on which the bucket of Open X-Embodiment and the one of Bridge stand; nobody waits."""
    monkeypatch.setattr(transfer, "PAUSES", (0.0, 0.0, 0.0))
    with serving() as server:
        monkeypatch.setattr(addresses, "BUCKETS", f"127.0.0.1:{server.server_port}")
        places = {
            "open-x": f"{server.address}/gresearch/robotics",
            "bridge": f"http://localhost:{server.server_port}/rail",
        }
        table = {**tables.table("downloads"), "places": places}
        monkeypatch.setattr(
            "openvla_toolkit.downloads.published.table",
            lambda name: table if name == "downloads" else tables.table(name),
        )
        yield server


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The version folder of a data set of three shards."""
    folder = tmp_path_factory.mktemp("recorded") / "dots"
    source = DotsEpisodesConfig(episodes=6, dataset="dots")
    convert(Job(source=source, destination=folder, to="rlds", settings={}, shard_frames=6))
    return folder / "1.0.0"
