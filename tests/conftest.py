"""Fixtures that more than one folder of tests needs."""

from __future__ import annotations

import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

# OpenMP's threads wait busily by default, which takes minutes on a machine that others use as well.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A shell's background jobs begin without Ctrl-C, and so would the programs that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # the environment must be set before anything imports torch

ASSETS = Path(__file__).parent / "assets"
GROUPS = {
    "action_tokenizer": {"toy-code": "toy_parts:CodeConfig"},
    "policy": {"toy-policy": "toy_parts:PolicyConfig"},
    "dataset": {"toy-episodes": "toy_parts:DatasetConfig"},
    "engine": {"single": "toy_parts:EngineConfig"},
    "executor": {"processes": "toy_parts:ExecutorConfig"},
    "evaluator": {"toy-score": "toy_parts:EvaluatorConfig"},
}


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep indexes of test data out of the user's cache, here and in the processes that tests start."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENVLA_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def offline() -> Iterator[None]:
    """Make a connection to any other host an error: tests must not come to need the network."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
            raise AssertionError(f"a test may not connect to {address[0]}: tests run offline.")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield


def is_loopback(host: str) -> bool:
    """Say whether an address (or the name ``localhost``) is this machine's own."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs a CUDA device, unless it is asked for: ``pytest -m gpu``."""
    if "gpu" in config.getoption("markexpr"):
        return
    chosen = [item for item in items if item.get_closest_marker("gpu") is None]
    config.hook.pytest_deselected(items=[item for item in items if item not in chosen])
    items[:] = chosen


class Install(Protocol):
    def __call__(
        self,
        package: str,
        groups: Mapping[str, Mapping[str, str]],
        *,
        modules: Mapping[str, str] | None = None,
    ) -> Path: ...


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Write a distribution that this process and its children find: entry points by kind, modules."""
    added: set[str] = set()

    def write(
        package: str, groups: Mapping[str, Mapping[str, str]], *, modules: Mapping[str, str] | None = None
    ) -> Path:
        site = tmp_path / "site" / package
        info = site / f"{package.replace('-', '_')}-1.2.3.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2.3\n")
        lines: list[str] = []
        for kind, names in groups.items():
            lines += [f"[openvla_toolkit.{kind}]", *(f"{name} = {target}" for name, target in names.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for name, code in (modules or {}).items():
            (site / f"{name}.py").write_text(code)
            added.add(name)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setenv("PYTHONPATH", str(site), prepend=os.pathsep)
        return site

    yield write
    for name in added:
        sys.modules.pop(name, None)


@pytest.fixture
def toys(install: Install) -> Path:
    """Take the place of the built-in components: a few toys that import nothing heavy."""
    return install("openvla-toolkit", GROUPS, modules={"toy_parts": (ASSETS / "toy_parts.py").read_text()})


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the plugins that happen to be installed here."""
    monkeypatch.setenv("OPENVLA_PLUGINS", "")
