"""The reference, made from the code when the documentation is built (a hook of mkdocs, see ``mkdocs.yml``).

``pages()`` returns path -> Markdown; nothing is written into the source tree.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click
from pydantic import BaseModel
from python_source import Source, prose

import openvla_toolkit
from openvla_toolkit.cli.verbs import VERBS, openvla
from openvla_toolkit.core.component import ComponentConfig, Section
from openvla_toolkit.core.describe import describe_fields, field_docs, type_name
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.core.registry import KINDS, TOOLKIT, distribution_name, find, load_entry

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

__all__ = ["on_files", "pages"]

PACKAGE = Path(openvla_toolkit.__file__).parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, and put them where the navigation says ``Reference``."""
    from mkdocs.structure.files import File

    generated = pages()
    for path, text in generated.items():
        files.append(File.generated(config, path, content=text))
    navigation: list[Any] = config.nav or []
    for entry in navigation:
        if "Reference" in entry:
            entry["Reference"] = list(generated)
    return files


def pages() -> dict[str, str]:
    """Return path below ``docs/`` -> Markdown for every page of the reference."""
    named = {
        "index": _index(),
        "recipe": _recipe(),
        "cli": _cli(),
        "python": _python(),
        **{kind: _kind(kind) for kind in KINDS},
        "types": _module("Types", "core/types.py", "What flows between components."),
        "contract": _module("Contract", "core/contract.py", ""),
        "hooks": _hooks(),
        "building-engines": _building_engines(),
        "errors": _errors(),
    }
    return {f"reference/{name}.md": text for name, text in named.items()}


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", *(part for part in parts if part)]) + "\n"


def _index() -> str:
    rows = ["| kind | what it is | built in |", "|---|---|---|"]
    for kind in KINDS:
        names = ", ".join(f"`{name}`" for name in _built_in(kind)) or "none yet"
        rows.append(f"| [{kind}]({kind}.md) | {_kind_summary(kind)} | {names} |")
    other = (
        "[Recipe](recipe.md), [command line](cli.md), [Python](python.md), [types](types.md), "
        "[contract](contract.md), [hooks](hooks.md), [building engines](building-engines.md), "
        "[errors](errors.md)."
    )
    return _page("Reference", "Made from the code of this version.", "\n".join(rows), f"Besides: {other}")


def _kind_summary(kind: str) -> str:
    path = _interface(kind)
    if not path.exists():
        return "reserved"
    first = Source(path).doc.splitlines()[0]
    return prose(first.partition(": ")[2]).rstrip(".")


def _interface(kind: str) -> Path:
    return PACKAGE / "interfaces" / f"{kind}.py"


def _built_in(kind: str) -> dict[str, type[ComponentConfig]]:
    """Load the toolkit's own components of a kind; what else is installed here belongs to others."""
    own = {
        name: [entry for entry in entries if distribution_name(entry) == TOOLKIT]
        for name, entries in sorted(find(kind).items())
    }
    return {name: load_entry(kind, entries[0]) for name, entries in own.items() if entries}


def _kind(kind: str) -> str:
    path = _interface(kind)
    if not path.exists():
        return _page(kind, "The name of this kind is reserved: it has no interface and no component yet.")
    source = Source(path)
    group = (
        f"Entry-point group `openvla_toolkit.{kind}`; a target is a config class. "
        f"The text below is that of `openvla_toolkit/interfaces/{kind}.py`."
    )
    built_in = _built_in(kind)
    components = [_component(name, config) for name, config in built_in.items()]
    inside = dict.fromkeys(one for config in built_in.values() for one in list(_sections(config))[1:])
    return _page(
        kind,
        prose(source.doc),
        group,
        source.page(source.classes()),
        "## Built-in components",
        *(components or ["None: components of this kind come from plugins."]),
        *(["## Settings inside them"] if inside else []),
        *map(_section, inside),
    )


def _component(name: str, config: type[ComponentConfig]) -> str:
    return f"### {name} {{ #component-{name} }}\n\n{prose(inspect.getdoc(config) or '')}\n\n{_table(config)}"


def _table(model: type[BaseModel]) -> str:
    rows = ["| key | type | default | |", "|---|---|---|---|"]
    if "name" in model.model_fields and not issubclass(model, ComponentConfig):
        name = model.model_fields["name"]
        choice = _escaped(type_name(name.annotation))
        default = "required" if name.is_required() else f"`{json.dumps(name.default)}`"
        doc = prose(" ".join(field_docs(model)["name"].split()))
        rows.append(f"| `name` | `{choice}` | {default} | {doc} |")
    for field in describe_fields(model):
        default = "required" if field.required else f"`{_escaped(json.dumps(field.default))}`"
        doc = prose(_escaped(" ".join(field.doc.split())))
        rows.append(f"| `{field.name}` | {_linked(_escaped(field.type))} | {default} | {doc} |")
    return "\n".join(rows) if len(rows) > 2 else "It has no settings."


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _linked(type_name: str) -> str:
    """Link a type that is a kind, or a list of components of a kind, to the kind's page."""
    links = {kind: f"[{kind}]({kind}.md)" for kind in KINDS}
    links |= {f"list[{kind}]": f"list of {link}" for kind, link in links.items()}
    return links.get(type_name, f"`{type_name}`")


def _recipe() -> str:
    how = (
        "A bare name is short for `{name: ...}`. `extends: other.yaml` merges this recipe over another, one "
        "level deep. On the command line `key.path=value` changes any value. "
        "`openvla show RECIPE` prints the result."
    )
    return _page("Recipe", how, *map(_section, _sections(Recipe)))


def _section(model: type[Section]) -> str:
    return f"## {model.__name__}\n\n{prose(inspect.getdoc(model) or '')}\n\n{_table(model)}"


def _sections(model: type[Section]) -> Iterator[type[Section]]:
    """Yield a section and those inside it, outer ones first; components have pages of their own."""
    yield model
    for field in model.model_fields.values():
        for hint in _hints(field.annotation):
            if isinstance(hint, type) and issubclass(hint, Section) and not issubclass(hint, ComponentConfig):
                yield from _sections(hint)


def _hints(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _hints(argument)


def _cli() -> str:
    group = click.Context(openvla, info_name="openvla")
    parts = [f"```text\n{openvla.get_help(group)}\n```"]
    for verb in VERBS:
        command = openvla.get_command(group, verb)
        assert command is not None
        parts += _helps(command, click.Context(command, info_name=verb, parent=group), f"## openvla {verb}")
    codes = (
        "0 done, 1 something failed, 2 the user can mend it; stopped by a signal 128 + its number: 130 for "
        "Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1 (on Linux). "
        "`--debug` anywhere on the line shows the traceback."
    )
    return _page("Command line", *parts, "## Exit codes", codes)


def _helps(command: click.Command, context: click.Context, heading: str) -> list[str]:
    """Return the help of a verb, and of the verbs inside it under headings one level below."""
    parts = [f"{heading}\n\n```text\n{command.get_help(context)}\n```"]
    if isinstance(command, click.Group):
        for name, inner in sorted(command.commands.items()):
            parts += _helps(inner, click.Context(inner, info_name=name, parent=context), f"#{heading} {name}")
    return parts


def _python() -> str:
    """Describe the public names, what ``run`` returns, and the policy that ``load_policy`` returns."""
    parts = []
    for name in openvla_toolkit.__all__:
        if name.startswith("__"):
            continue
        home = PACKAGE.parent / f"{openvla_toolkit._HOMES[name].replace('.', '/')}.py"
        names = ["RunResult", name] if name == "run" else [name]
        parts.append(Source(home).page(names, fields=name != "Recipe"))
    parts.append(Source(PACKAGE / "policies/prismatic/policy.py").page(["OpenVLAPolicy"]))
    how = (
        "All but `RunResult` and the policy's class is imported from `openvla_toolkit`, on first use. "
        "The keys of a recipe are on [their own page](recipe.md)."
    )
    return _page("Python", how, *parts)


def _module(title: str, path: str, introduction: str) -> str:
    source = Source(PACKAGE / path)
    return _page(title, introduction or prose(source.doc), source.page(source.classes()))


def _building_engines() -> str:
    """Describe what the module offers to authors of engines, each from where it is written."""
    path = PACKAGE / "engines/building.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    homes = {
        alias.name: PACKAGE.parent / f"{node.module.replace('.', '/')}.py"
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    (offered,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    )
    names = [name for name in offered if not name.isupper()]  # constants are told of above
    parts = [Source(homes.get(name, path)).page([name]) for name in names]
    how = "All of it is imported from `openvla_toolkit.engines.building`. See the kind [engine](engine.md)."
    return _page("Building engines", prose(Source(path).doc), how, *parts)


def _hooks() -> str:
    source = Source(PACKAGE / "core/hooks.py")
    how = (
        "Mark methods with `openvla_toolkit.core.hooks.observe`; choose observers with the recipe's "
        "`observers` list. See the kind [observer](observer.md)."
    )
    return _page("Hooks", prose(source.doc), how, source.page(["Facts"]))


def _errors() -> str:
    source = Source(PACKAGE / "core/errors.py")
    summary, _, rest = source.doc.partition("\n\n")
    tree, _, after = rest.partition("\n\n")
    tree = f"```text\n{inspect.cleandoc(tree)}\n```"
    return _page("Errors", summary, tree, after, source.page(source.classes()))
