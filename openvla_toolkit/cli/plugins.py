"""``openvla plugins``: what is installed, from metadata alone; one name is imported and explained."""

from __future__ import annotations

import inspect
import json
import textwrap
from importlib.metadata import EntryPoint
from typing import Any

import click

from openvla_toolkit.core.errors import UserError, did_you_mean
from openvla_toolkit.core.registry import KINDS, distribution_name, find, load

__all__ = ["command"]


@click.command()
@click.argument("kind", required=False)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, kind: str | None, name: str | None, as_json: bool) -> None:
    """List all installed components, those of one KIND, or the settings of one NAME."""
    if kind is not None and kind not in KINDS:
        raise UserError(f"there is no kind '{kind}'.{did_you_mean(kind, KINDS)} Kinds: {', '.join(KINDS)}.")
    if kind is not None and name is not None:
        explained = _explain(kind, name)
        click.echo(json.dumps(explained, indent=2) if as_json else _page(explained))
        return
    rows = [_row(one, entry) for one in ([kind] if kind else KINDS) for entry in _entries(one)]
    click.echo(json.dumps(rows, indent=2) if as_json else _table(rows))


def _entries(kind: str) -> list[EntryPoint]:
    return [entry for _, entries in sorted(find(kind).items()) for entry in entries]


def _row(kind: str, entry: EntryPoint) -> dict[str, str]:
    version = entry.dist.version if entry.dist is not None else ""
    return {
        "kind": kind,
        "name": entry.name,
        "package": distribution_name(entry),
        "version": version,
        "target": entry.value,
    }


def _table(rows: list[dict[str, str]]) -> str:
    if not rows:
        return "nothing is installed."
    lines = [("KIND", "NAME", "PACKAGE")]
    lines += [(row["kind"], row["name"], f"{row['package']} {row['version']}") for row in rows]
    widths = [max(len(line[column]) for line in lines) + 2 for column in (0, 1)]
    return "\n".join(f"{kind:{widths[0]}}{name:{widths[1]}}{package}" for kind, name, package in lines)


def _explain(kind: str, name: str) -> dict[str, Any]:
    config = load(kind, name)
    from openvla_toolkit.core.describe import describe_fields

    fields = [field._asdict() for field in describe_fields(config)]
    return {**_row(kind, find(kind)[name][0]), "doc": inspect.getdoc(config) or "", "fields": fields}


def _page(explained: dict[str, Any]) -> str:
    lines = [
        f"{explained['kind']} '{explained['name']}' of {explained['package']} {explained['version']}",
        f"{explained['target']}",
    ]
    lines += ["", explained["doc"]] if explained["doc"] else []
    for field in explained["fields"]:
        default = "required" if field["required"] else f"default {json.dumps(field['default'])}"
        lines += ["", f"  {field['name']}: {field['type']}  ({default})"]
        lines += [
            textwrap.fill(field["doc"], 100, initial_indent="      ", subsequent_indent="      ")
        ] * bool(field["doc"])
    return "\n".join(lines)
