"""From (kind, name) to the config class of a component, through entry points.

Every kind has one entry-point group, ``openvla_toolkit.<kind>``, whose targets are config classes. Listing
reads metadata only; asking for one name imports that one class. ``OPENVLA_PLUGINS=a,b`` shows only these
distributions (and the toolkit), ``OPENVLA_DISABLE_PLUGINS=a,b`` hides these; worker processes inherit both.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from importlib.metadata import EntryPoint, distributions
from typing import TYPE_CHECKING, Any

from openvla_toolkit.core.errors import AmbiguousComponent, BrokenComponent, UnknownComponent, UserError

if TYPE_CHECKING:
    from openvla_toolkit.core.component import ComponentConfig

__all__ = [
    "COMMAND_GROUP",
    "KINDS",
    "TOOLKIT",
    "ByName",
    "available_components",
    "by_name",
    "commands",
    "distribution_name",
    "find",
    "installed",
    "load",
    "load_command",
    "load_entry",
]

KINDS = (
    "vision_backbone",
    "language_model",
    "prompt",
    "action_tokenizer",
    "action_head",
    "policy",
    "embodiment",
    "dataset",
    "transform",
    "mixture",
    "engine",
    "executor",
    "environment",
    "evaluator",
    "exporter",
    "runtime",
    "launcher",
    "observer",
)
"""What can be chosen by name in a recipe."""

COMMAND_GROUP = "openvla_toolkit.command"
"""The entry-point group of third-party verbs; a target is a ``click.Command``."""

TOOLKIT = "openvla-toolkit"
"""The distribution that is never hidden."""

_session: dict[tuple[str, str], EntryPoint] = {}


def find(kind: str) -> Mapping[str, list[EntryPoint]]:
    """List the visible names of a kind and who provides each; imports nothing, never raises."""
    return _group(f"openvla_toolkit.{kind}")


def commands() -> Mapping[str, list[EntryPoint]]:
    """List the visible third-party verbs."""
    return _group(COMMAND_GROUP)


def load(kind: str, name: str) -> type[ComponentConfig]:
    """Import the config class that a name stands for.

    Raises ``UnknownComponent``, ``AmbiguousComponent`` (two distributions provide the name) or
    ``BrokenComponent`` (it cannot be imported, or is not a config of this kind and name).
    """
    found = find(kind)
    entries = found.get(name)
    if not entries:
        raise UnknownComponent(kind, name, found)
    if len(entries) > 1:
        raise AmbiguousComponent(kind, name, [distribution_name(entry) for entry in entries])
    return load_entry(kind, entries[0])


def load_entry(kind: str, entry: EntryPoint) -> type[ComponentConfig]:
    """Import the config class of one entry point; raises ``BrokenComponent``."""
    package = distribution_name(entry)
    try:
        target = entry.load()
    except (Exception, SystemExit) as error:
        raise BrokenComponent(kind, entry.name, package, _cause(error, entry)) from error
    if problem := _mismatch(target, kind, entry.name):
        raise BrokenComponent(kind, entry.name, package, f"{entry.value} {problem}")
    config: type[ComponentConfig] = target
    return config


def load_command(name: str) -> object:
    """Import a third-party verb; raises as ``load`` does."""
    entries = commands().get(name, [])
    if len(entries) != 1:
        packages = [distribution_name(entry) for entry in entries]
        raise (
            AmbiguousComponent("verb", name, packages)
            if entries
            else UnknownComponent("verb", name, commands())
        )
    try:
        return entries[0].load()
    except (Exception, SystemExit) as error:
        package = distribution_name(entries[0])
        raise BrokenComponent("verb", name, package, _cause(error, entries[0])) from error


def by_name(*kinds: str, default: str | None = None) -> ByName:
    """Return the pydantic validator that makes a config of one of these kinds, by its name.

    A value is a name, or a mapping with ``name``. A config object passes through, so Python users need no
    registration. ``default`` is the name that a mapping without ``name`` takes; without it such a mapping
    is an error.
    """
    return ByName(*kinds, default=default)


class ByName:
    """The validator that ``by_name`` makes; it knows its kinds, for schemas and suggestions."""

    def __init__(self, *kinds: str, default: str | None = None) -> None:
        self.kinds, self.default = kinds, default
        self.label = " or ".join(kinds)
        self._one = f"{'an' if kinds[0][0] in 'aeiou' else 'a'} {self.label}"

    def __call__(self, value: object) -> object:
        """Validate one value; problems are pydantic errors, so that all mistakes are listed at once."""
        from openvla_toolkit.core.component import ComponentConfig

        if isinstance(value, ComponentConfig):
            return self._checked(value)
        settings = {"name": value} if isinstance(value, str) else value
        if not isinstance(settings, Mapping):
            raise _complaint(f"expected the name of {self._one}, or a mapping with 'name', not {value!r}.")
        name = settings.get("name", self.default)
        if not isinstance(name, str):
            names = ", ".join(sorted(self.installed())) or "none"
            raise _complaint(f"{self._one} needs a 'name'. Installed: {names}.")
        try:
            config = self.load(name)
        except UserError as error:
            raise _complaint(str(error)) from error
        return config.model_validate({**settings, "name": name})

    def installed(self) -> dict[str, str]:
        """Return the visible names of all kinds, and the first kind that has each."""
        return {name: kind for kind in reversed(self.kinds) for name in find(kind)}

    def load(self, name: str) -> type[ComponentConfig]:
        """Import the config class that a name stands for; raises as the module's ``load`` does."""
        having = [kind for kind in self.kinds if name in find(kind)]
        if not having:
            raise UnknownComponent(self.label, name, self.installed())
        if len(having) > 1:
            entries = [entry for kind in having for entry in find(kind)[name]]
            raise AmbiguousComponent(self.label, name, [distribution_name(entry) for entry in entries])
        return load(having[0], name)

    def _checked(self, config: ComponentConfig) -> ComponentConfig:
        if config.kind not in self.kinds:
            raise _complaint(f"{type(config).__name__} is of kind {config.kind}; {self._one} is expected.")
        return config


def available_components(kind: str | None = None) -> dict[str, dict[str, str]]:
    """Return kind -> name -> distribution of what is installed, of all kinds or one; imports none of it."""
    kinds = KINDS if kind is None else (kind,)
    return {
        one: {name: ", ".join(map(distribution_name, entries)) for name, entries in sorted(find(one).items())}
        for one in kinds
    }


def distribution_name(entry: EntryPoint) -> str:
    """Return the normalised (PEP 503) name of the distribution that an entry point belongs to."""
    return _normalised(entry.dist.name) if entry.dist is not None else "this session"


@contextmanager
def installed(kind: str, name: str, target: str) -> Iterator[None]:
    """Make ``target`` (``module:Config``) known under a name for one ``with`` block."""
    key = (f"openvla_toolkit.{kind}", name)
    _session[key] = EntryPoint(name=name, value=target, group=key[0])
    try:
        yield
    finally:
        del _session[key]


def _group(group: str) -> dict[str, list[EntryPoint]]:
    names: dict[str, list[EntryPoint]] = {}
    for package, entry in _scan(tuple(sys.path)):
        if entry.group == group and _is_visible(package):
            names.setdefault(entry.name, []).append(entry)
    for (session_group, name), entry in _session.items():
        if session_group == group:
            names.setdefault(name, []).append(entry)
    return names


@lru_cache(maxsize=4)
def _scan(path: tuple[str, ...]) -> tuple[tuple[str, EntryPoint], ...]:
    """Read every entry point of ours on ``path`` once; a distribution that lies there twice counts once."""
    seen: dict[str, list[EntryPoint]] = {}
    for distribution in distributions(path=list(path)):
        if "openvla_toolkit." not in (distribution.read_text("entry_points.txt") or ""):
            continue
        name = _normalised(distribution.name or "unknown")
        if name not in seen:
            seen[name] = [
                entry for entry in distribution.entry_points if entry.group.startswith("openvla_toolkit.")
            ]
    return tuple((name, entry) for name, entries in seen.items() for entry in entries)


def _is_visible(package: str) -> bool:
    if package == TOOLKIT:
        return True
    only = os.environ.get("OPENVLA_PLUGINS")
    if only is not None and package not in _names(only):
        return False
    return package not in _names(os.environ.get("OPENVLA_DISABLE_PLUGINS", ""))


def _names(text: str) -> set[str]:
    return {_normalised(part.strip()) for part in text.split(",") if part.strip()}


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _cause(error: BaseException, entry: EntryPoint) -> str:
    """Say why an import failed and what to do about it."""
    if isinstance(error, SystemExit):
        return f"importing {entry.module} ends the program (exit code {error.code})"
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = distribution_name(entry)
        if error.name.split(".")[0] == entry.module.split(".")[0]:
            return f"its module {error.name} does not exist: reinstall {package}"
        return f"it needs {error.name}, which is not installed: pip install {error.name.split('.')[0]}"
    return f"importing {entry.module} fails with {type(error).__name__}: {error}"


def _mismatch(target: object, kind: str, name: str) -> str | None:
    """Say what keeps ``target`` from being the config class of this kind and name, or return None."""
    from openvla_toolkit.core.component import ComponentConfig

    if not (isinstance(target, type) and issubclass(target, ComponentConfig)):
        return "is not a subclass of ComponentConfig"
    if (its_kind := getattr(target, "kind", None)) != kind:
        return f"has kind {its_kind!r}, but is registered in the group of kind {kind!r}"
    if (its_name := target.model_fields["name"].default) != name:
        return f"has name {its_name!r} as its default, but is registered as {name!r}"
    return None


def _complaint(message: str) -> Any:
    from pydantic_core import PydanticCustomError

    return PydanticCustomError("component", "{message}", {"message": message})
