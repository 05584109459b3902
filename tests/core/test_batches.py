"""A batch goes to a CUDA device from pinned memory, without waiting, and on the CPU it is not copied."""

from __future__ import annotations

from unittest.mock import Mock

import numpy as np
import pytest
import torch

from openvla_toolkit.core.batches import on_device


def test_on_the_cpu_nothing_is_copied() -> None:
    array = np.arange(4, dtype=np.float32)
    (tensor,) = on_device({"x": array}, torch.device("cpu")).values()
    array[0] = 7
    assert tensor.tolist() == [7, 1, 2, 3]


def test_to_a_cuda_device_they_go_pinned_and_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU here: the tensor is pretended."""
    tensor = Mock()
    monkeypatch.setattr(torch, "from_numpy", lambda array: tensor)
    device = torch.device("cuda:1")
    found = on_device({"x": np.zeros(1)}, device)
    pinned = tensor.pin_memory.return_value
    pinned.to.assert_called_once_with(device, non_blocking=True)
    assert found == {"x": pinned.to.return_value}


@pytest.mark.gpu
def test_what_arrives_is_what_was_sent() -> None:
    array = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    (tensor,) = on_device({"x": array}, torch.device("cuda")).values()
    assert tensor.is_cuda
    assert np.array_equal(tensor.cpu().numpy(), array)
