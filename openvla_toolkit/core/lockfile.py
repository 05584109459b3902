"""``recipe.lock.yaml``: the resolved recipe with a record of what ran it; running it repeats the run."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.registry import TOOLKIT, distribution_name, find
from openvla_toolkit.core.storage import atomic_write_text, storage_errors

__all__ = ["LOCK_NAME", "components_of", "lock_record", "write_lock"]

LOCK_NAME = "recipe.lock.yaml"


def write_lock(recipe: Recipe, output: Path) -> Path:
    """Write ``output/recipe.lock.yaml`` atomically and return its path; raises ``StorageError``."""
    path = output / LOCK_NAME
    record = yaml.safe_dump({"lock": lock_record(recipe)}, sort_keys=False, allow_unicode=True, width=110)
    text = f"{recipe.to_yaml()}\n# What ran it; not read back.\n{record}"
    with storage_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    atomic_write_text(path, text)
    return path


def lock_record(recipe: Recipe) -> dict[str, Any]:
    """Describe the software and the machine, as far as they can matter to a result."""
    components = [_origin(component) for component in components_of(recipe)]
    record: dict[str, Any] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu": {"model": _cpu_model(), "count": os.cpu_count()},
        "gpus": _gpu_names(),
        "packages": _versions({TOOLKIT, *_direct_dependencies(), *(one["package"] for one in components)}),
        "components": [one for position, one in enumerate(components) if one not in components[:position]],
    }
    if commit := _git_commit(recipe.source):
        record["git_commit"] = commit
    return record


def components_of(settings: object) -> Iterator[ComponentConfig]:
    """Yield every component of a recipe (or of any settings), outer ones first."""
    if isinstance(settings, ComponentConfig):
        yield settings
    if isinstance(settings, BaseModel):
        for name in type(settings).model_fields:
            yield from components_of(getattr(settings, name))
    elif isinstance(settings, list | tuple):
        for item in settings:
            yield from components_of(item)
    elif isinstance(settings, dict):
        for item in settings.values():
            yield from components_of(item)


def _origin(component: ComponentConfig) -> dict[str, str]:
    entries = find(component.kind).get(component.name, [])
    home = type(component).__module__.partition(".")[0].replace("_", "-")
    package = distribution_name(entries[0]) if len(entries) == 1 else home
    return {"kind": component.kind, "name": component.name, "package": package}


def _direct_dependencies() -> list[str]:
    try:
        requirements = requires(TOOLKIT) or []
    except PackageNotFoundError:
        return []
    names = (re.match(r"[A-Za-z0-9._-]+", one) for one in requirements if "extra ==" not in one)
    return [match[0] for match in names if match]


def _versions(packages: set[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed (a component of this session has none)."""
    versions = {}
    for package in sorted(packages, key=str.lower):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _cpu_model() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    match = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


def _gpu_names() -> list[str]:
    """Name the GPUs that torch sees; empty when nothing imported torch yet."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _git_commit(recipe: Path | None) -> str | None:
    """Return the commit of the recipe's folder (``+`` marks local changes), or None outside git."""
    if recipe is None:
        return None
    folder = recipe.resolve().parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        return commit + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None  # no git here, or no repository: a recipe may live anywhere
