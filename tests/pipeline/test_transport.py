"""Batches between processes: what arrives is what was sent, by either way."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from openvla_toolkit.pipeline import transport
from openvla_toolkit.pipeline.transport import LARGE, Made, packed, unpacked


@pytest.fixture(autouse=True)
def nothing_said_yet() -> Iterator[None]:
    transport._complain.cache_clear()
    yield
    transport._complain.cache_clear()


def batch() -> dict[str, NDArray[np.generic]]:
    pixels = np.arange(LARGE // 4, dtype=np.float32).reshape(4, -1)
    return {"pixels": pixels, "ids": np.arange(12).reshape(3, 4), "is_action": np.array([True, False, True])}


def test_what_is_large_is_shared_and_arrives() -> None:
    sent = packed(batch(), workers=2)
    assert {key for key, part in sent.items() if isinstance(part, torch.Tensor)} == {"pixels"}
    for key, array in unpacked(sent).items():
        assert isinstance(array, np.ndarray)
        assert array.dtype == batch()[key].dtype
        np.testing.assert_array_equal(array, batch()[key])


def test_nothing_is_copied_on_arrival() -> None:
    sent = packed(batch(), workers=1)
    assert np.shares_memory(unpacked(sent)["pixels"], sent["pixels"].numpy())


@pytest.mark.parametrize("room", [0, 2 * LARGE])
def test_without_room_the_pipe_is_taken_and_it_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, room: int
) -> None:
    monkeypatch.setattr(transport, "_free", lambda: room)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            sent = packed(batch(), workers=2)
            assert all(isinstance(part, np.ndarray) for part in sent.values())
    assert len(caplog.messages) == 1
    assert "docker run --shm-size" in caplog.messages[0]


def test_with_just_enough_room_it_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "_free", lambda: 3 * LARGE)
    assert isinstance(packed(batch(), workers=2)["pixels"], torch.Tensor)


def test_small_batches_ask_for_no_room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(transport, "SHARED_MEMORY", str(tmp_path / "missing"))
    sent = packed({"ids": np.arange(3)}, workers=8)
    assert isinstance(sent["ids"], np.ndarray)
    assert not isinstance(packed(batch(), workers=8)["pixels"], torch.Tensor), "there is no such memory"


def test_what_finds_no_room_after_all_takes_the_pipe(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """There was enough when it was asked for; another rank has taken it since."""

    def full(storage: object) -> None:
        raise RuntimeError(
            "unable to allocate shared memory(shm) for file </torch_1>: No space left on device"
        )

    monkeypatch.setattr(torch.UntypedStorage, "_share_fd_cpu_", full)
    with caplog.at_level(logging.WARNING):
        message = transport._message(Made(batch(), {"words": 2}), workers=2)
    made = pickle.loads(bytes(message))
    assert made.skipped == {"words": 2}
    for key, array in made.batch.items():
        np.testing.assert_array_equal(array, batch()[key])
    assert "docker run --shm-size" in caplog.messages[0]
