"""Every installed engine keeps to its interface on a CUDA device: ``pytest -m gpu``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from openvla_toolkit.core.registry import find

CHECK = """
import sys
from openvla_toolkit.core.registry import by_name
from openvla_toolkit.testing import check_engine
name, precision = sys.argv[1:]
check_engine(by_name("engine")({"name": name, "device": "cuda", "precision": precision}))
"""


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", sorted(find("engine")))
def test_an_engine_keeps_to_its_interface_on_a_gpu(name: str, precision: str) -> None:
    """In a process of its own: some libraries choose the kind of device once."""
    command = [sys.executable, "-c", CHECK, name, precision]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
