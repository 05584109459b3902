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
