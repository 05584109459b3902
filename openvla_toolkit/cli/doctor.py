"""``openvla doctor``: what is installed, what works, what is broken."""

from __future__ import annotations

import json
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

import click

from openvla_toolkit.core.registry import KINDS, TOOLKIT, commands, distribution_name, find

__all__ = ["TIME_LIMIT", "command"]

TIME_LIMIT = 120.0
"""Seconds that the imports of one distribution may take."""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, as_json: bool) -> int:
    """Import every plugin in a process of its own and report; exit code 1 when something is broken."""
    report: dict[str, Any] = {
        "python": f"{platform.python_version()} ({platform.platform()})",
        "packages": _packages(),
        "torch": _torch(),
        "plugins": [_examined(package) for package in _distributions()],
        "duplicates": list(_duplicates()),
    }
    click.echo(json.dumps(report, indent=2) if as_json else "\n".join(_page(report)))
    broken = report["torch"].get("error") or any(plugin["broken"] for plugin in report["plugins"])
    missing = [name for name, found in report["packages"].items() if found is None]
    return 1 if broken or missing or report["duplicates"] else 0


def _packages() -> dict[str, str | None]:
    """Return the toolkit's and its dependencies' versions; None where one is missing."""
    try:
        requirements = [one for one in requires(TOOLKIT) or [] if "extra ==" not in one]
    except PackageNotFoundError:
        requirements = []
    names = [TOOLKIT, *sorted(re.split(r"[^A-Za-z0-9._-]", one, maxsplit=1)[0] for one in requirements)]
    return {name: _version(name) for name in names}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch() -> dict[str, Any]:
    lines, error = _probe("torch")
    return lines[-1] if lines and not error else {"error": error}


def _distributions() -> list[str]:
    """Return the distributions that provide components or verbs, the toolkit first."""
    entries = [
        entry for group in (*map(find, KINDS), commands()) for several in group.values() for entry in several
    ]
    return sorted(set(map(distribution_name, entries)), key=lambda name: (name != TOOLKIT, name))


def _duplicates() -> Iterator[str]:
    """Describe the names that more than one distribution provides."""
    for kind, names in [*((kind, find(kind)) for kind in KINDS), ("verb", commands())]:
        for name, entries in names.items():
            if len(entries) > 1:
                yield f"{kind} '{name}' is provided by {', '.join(sorted(map(distribution_name, entries)))}"


def _examined(package: str) -> dict[str, Any]:
    lines, error = _probe("package", package)
    done = [line for line in lines if "seconds" in line]
    broken = [line["error"] for line in done if line["error"]]
    if error:
        last = lines[-1] if lines else None
        where = f" while importing {last['kind']} '{last['name']}'" if last else ""
        broken.append(f"{package} {error}{where}.")
    seconds = round(sum(line["seconds"] for line in done), 3)
    return {
        "package": package,
        "version": _version(package),
        "entries": len(done),
        "seconds": seconds,
        "broken": broken,
    }


def _probe(*arguments: str) -> tuple[list[dict[str, Any]], str | None]:
    """Run ``openvla_toolkit.cli.probe`` and return what it said and, if it failed, how."""
    process = [sys.executable, "-m", "openvla_toolkit.cli.probe", *arguments]
    try:
        done = subprocess.run(process, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    except subprocess.TimeoutExpired as late:
        said = late.stdout or b""
        return _parsed(said.decode() if isinstance(said, bytes) else said), f"took over {TIME_LIMIT:.0f} s"
    if done.returncode == 0:
        return _parsed(done.stdout), None
    reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return _parsed(done.stdout), f"ended the process with code {done.returncode} ({reason})"


def _parsed(text: str) -> list[dict[str, Any]]:
    """Keep the probe's own lines; a plugin may print at import."""
    return [json.loads(line) for line in text.splitlines() if line.startswith('{"')]


def _page(report: dict[str, Any]) -> Iterator[str]:
    yield f"python    {report['python']}"
    for name, found in report["packages"].items():
        yield f"package   {name} {found or 'is MISSING: pip install ' + name}"
    torch = report["torch"]
    if torch.get("error"):
        yield f"torch     BROKEN: {torch['error']}"
    else:
        devices = ", ".join(torch["gpus"]) or "no GPU"
        build = f"{torch['version']} ({torch['build']} build)"
        yield f"torch     {build}, {devices}, imported in {torch['seconds']:.1f} s"
    for plugin in report["plugins"]:
        state = "BROKEN" if plugin["broken"] else "ok"
        yield (
            f"plugin    {plugin['package']} {plugin['version'] or ''}: {state}, "
            f"{plugin['entries']} names imported in {plugin['seconds']:.2f} s"
        )
        yield from (f"          {problem}" for problem in plugin["broken"])
    yield from (f"DUPLICATE {one}" for one in report["duplicates"])
