from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.cli import doctor

Openvla = Callable[..., tuple[int, str, str]]
Install = Callable[..., Path]
PROBE = doctor._probe


@pytest.fixture(autouse=True)
def _no_torch(toys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing torch takes a second or more; one test does it."""
    torch = {"version": "2.9", "build": "CPU", "gpus": [], "seconds": 1.0}
    monkeypatch.setattr(
        doctor, "_probe", lambda *words: ([torch], None) if words == ("torch",) else PROBE(*words)
    )
    monkeypatch.setenv("OPENVLA_PLUGINS", "openvla-broken,openvla-fine,openvla-twin")


def plugins(openvla: Openvla) -> tuple[int, dict[str, Any], dict[str, Any]]:
    code, out, err = openvla("doctor", "--json")
    assert err == ""
    report = json.loads(out)
    return code, report, {plugin["package"]: plugin for plugin in report["plugins"]}


def test_all_is_well(openvla: Openvla) -> None:
    code, _, found = plugins(openvla)
    assert code == 0
    toolkit = found["openvla-toolkit"]
    assert (toolkit["version"], toolkit["entries"], toolkit["broken"]) == ("1.2.3", 6, [])
    code, out, _ = openvla("doctor")
    assert code == 0
    assert "plugin    openvla-toolkit 1.2.3: ok, 6 names imported in " in out


def test_a_broken_plugin_is_named_with_its_cause(openvla: Openvla, install: Install) -> None:
    modules = {
        "broken_module": "print('hello')\nimport nosuchlib",
        "fine_command": "import click; c = click.Command('x')",
    }
    install("openvla-broken", {"dataset": {"bad": "broken_module:Config"}}, modules=modules)
    install("openvla-fine", {"command": {"fine": "fine_command:c"}})
    code, _, found = plugins(openvla)
    assert code == 1
    (problem,) = found["openvla-broken"]["broken"]
    assert problem.startswith("dataset 'bad' from openvla-broken cannot be used: it needs nosuchlib")
    assert found["openvla-fine"]["broken"] == []
    assert "openvla-broken 1.2.3: BROKEN" in openvla("doctor")[1]


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        (
            "import os; os._exit(7)",
            "openvla-broken ended the process with code 7 (no message) while importing dataset",
        ),
        ("import time; time.sleep(600)", "openvla-broken took over 2 s"),
    ],
)
def test_a_plugin_that_takes_its_process_along_harms_nothing_else(
    openvla: Openvla, install: Install, monkeypatch: pytest.MonkeyPatch, code: str, problem: str
) -> None:
    monkeypatch.setattr(doctor, "TIME_LIMIT", 2.0 if "sleep" in code else 60.0)
    install("openvla-broken", {"dataset": {"bad": "broken_module:Config"}}, modules={"broken_module": code})
    monkeypatch.setattr(doctor, "_distributions", lambda: ["openvla-broken"])
    status, _, found = plugins(openvla)
    assert status == 1
    assert found["openvla-broken"]["broken"][0].startswith(problem)


def test_names_of_two_packages_are_listed(openvla: Openvla, install: Install) -> None:
    code = "import click; c = click.Command('x')"
    for package in ("openvla-fine", "openvla-twin"):
        module = package.replace("-", "_")
        install(package, {"command": {"greet": f"{module}:c"}}, modules={module: code})
    status, report, _ = plugins(openvla)
    assert status == 1
    assert report["duplicates"] == ["verb 'greet' is provided by openvla-fine, openvla-twin"]
    assert "DUPLICATE verb 'greet'" in openvla("doctor")[1]


def test_torch_is_imported_in_a_process_of_its_own() -> None:
    (line,), error = PROBE("torch")
    assert error is None
    assert line["version"][0].isdigit()
    assert line["build"].startswith(("CPU", "CUDA"))


def test_a_missing_torch_is_broken(openvla: Openvla, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_probe", lambda *words: ([], "ended the process with code 1 (no torch)"))
    code, out, _ = openvla("doctor")
    assert code == 1
    assert "torch     BROKEN: ended the process with code 1 (no torch)" in out
