"""``openvla new``: a plugin package to start from; its own tests pass at once."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

import click

from openvla_toolkit import __version__
from openvla_toolkit.core.errors import UserError, did_you_mean
from openvla_toolkit.core.registry import KINDS, distribution_name, find
from openvla_toolkit.core.storage import atomic_folder

__all__ = ["TEMPLATED_KINDS", "command", "rendered"]

TEMPLATES = Path(__file__).parent / "templates"
SHARED = "package"
USAGE = "usage.yaml"

TEMPLATED_KINDS = tuple(kind for kind in KINDS if (TEMPLATES / kind).is_dir())
"""The kinds that a package can be written for."""


@click.command()
@click.argument("kind")
@click.argument("name")
def command(*, kind: str, name: str) -> None:
    """Write the package openvla-NAME with one component of KIND, its tests and a README."""
    if kind not in TEMPLATED_KINDS:
        known = (
            f"{did_you_mean(kind, TEMPLATED_KINDS)} There are templates for: {', '.join(TEMPLATED_KINDS)}."
        )
        raise UserError(f"there is no template for a '{kind}'.{known}")
    name = _checked(kind, name)
    folder = Path(f"openvla-{name}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists already and is not an empty folder; choose another name.")
    with atomic_folder(folder, replace=True) as partial:
        for path, text in rendered(kind, name).items():
            target = partial / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    click.echo(f'wrote {folder}; try it: (cd {folder} && pip install -e ".[test]" && pytest)')


def rendered(kind: str, name: str) -> dict[str, str]:
    """Return path -> text of every file of the package."""
    module = f"openvla_{name.replace('-', '_')}"
    major, minor = __version__.split(".")[:2]
    words = {
        "kind": kind,
        "a_kind": f"{'an' if kind[0] in 'aeiou' else 'a'} {kind.replace('_', ' ')}",
        "name": name,
        "module": module,
        "distribution": f"openvla-{name}",
        "cls": "".join(part.capitalize() for part in name.split("-")),
        "requires": f"openvla-toolkit>={major}.{minor},<{major}.{int(minor) + 1}",
    }
    words["usage"] = (
        Template((TEMPLATES / kind / USAGE).read_text(encoding="utf-8")).substitute(words).rstrip()
    )
    files: dict[str, str] = {}
    for root in (TEMPLATES / SHARED, TEMPLATES / kind):
        for source in sorted(root.rglob("*.tmpl")):
            path = str(source.relative_to(root).with_suffix("")).replace("MODULE", module)
            files[path] = Template(source.read_text(encoding="utf-8")).substitute(words)
    return files


def _checked(kind: str, name: str) -> str:
    """Return the name if it can be a distribution's (PEP 503, normalised) and is still free."""
    name = name.removeprefix("openvla-")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name):
        better = re.sub(r"[^a-z0-9]+", "-", name.lower()).lstrip("-0123456789").rstrip("-")
        near = f" Did you mean '{better}'?" if better else ""
        raise UserError(
            f"'{name}' is no name for a package: lower-case letters, digits, single hyphens.{near}"
        )
    taken = [distribution_name(entry) for entry in find(kind).get(name, [])]
    if taken:
        raise UserError(f"{kind} '{name}' is provided by {taken[0]} already; choose another name.")
    return name
