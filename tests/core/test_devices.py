"""A device is found by name, and one that is not there is said with the setting that asked for it."""

from __future__ import annotations

import pytest
import torch

from openvla_toolkit.core.devices import usable_device
from openvla_toolkit.core.errors import UserError


def test_a_device_that_is_there_is_returned() -> None:
    assert usable_device("cpu", setting="device") == torch.device("cpu")


@pytest.mark.parametrize("name", ["cuda:99", "abacus", ""])
def test_a_device_that_is_not_there_is_named_with_its_setting(name: str) -> None:
    with pytest.raises(UserError, match=rf"serve\.device '{name}' is not usable here: .*Take 'cpu'.*\.$"):
        usable_device(name, setting="serve.device")


def test_every_process_of_a_machine_needs_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {
        "RANK": "2",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "2",
    }.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert usable_device("cpu", setting="device") == torch.device("cpu")
    with pytest.raises(UserError, match=r"device 'cuda': rank 2 has no GPU of its own, there are 1 for 2"):
        usable_device("cuda", setting="device")


@pytest.mark.parametrize(("world", "name"), [("1", "cuda:1"), ("4", "cuda")])
def test_the_device_is_the_current_one_of_libraries_that_are_told_of_none(
    world: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No GPU here: torch's functions are pretended."""
    for variable, value in {"RANK": "0", "LOCAL_RANK": "1", "WORLD_SIZE": world}.items():
        monkeypatch.setenv(variable, "1" if variable == "RANK" and world != "1" else value)
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch, "empty", lambda size, device: current.append("used"))
    assert usable_device(name, setting="device") == torch.device("cuda:1")
    assert current == [torch.device("cuda:1"), "used"]
