"""The formats that need packages of their own say so, and name the extra to install."""

from __future__ import annotations

import importlib
import sys

import pytest

from openvla_toolkit.core.errors import MissingDependency


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [
        ("openvla_toolkit.datasets.lerobot.tables", "pyarrow", "lerobot"),
        ("openvla_toolkit.datasets.lerobot.video", "av", "lerobot"),
        ("openvla_toolkit.datasets.hdf5.files", "h5py", "hdf5"),
    ],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str, extra: str
) -> None:
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        MissingDependency, match=rf"needs {package}: pip install 'openvla-toolkit\[{extra}\]'"
    ):
        importlib.import_module(module)
