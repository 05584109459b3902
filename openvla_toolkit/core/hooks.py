"""The few facts that observers are told, and the manager that tells them.

An observer is any object with some of the methods of ``Facts``, each marked ``@observe``. It may leave out
arguments that it does not need. It returns nothing and changes nothing; what changes a run is a component.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pluggy

from openvla_toolkit.core.errors import BrokenComponent

if TYPE_CHECKING:
    from openvla_toolkit.core.recipe import Recipe

__all__ = ["FACTS", "Facts", "Observers", "observe"]

PROJECT = "openvla_toolkit"

fact = pluggy.HookspecMarker(PROJECT)
observe = pluggy.HookimplMarker(PROJECT)
"""Marks a method of an observer."""


class Facts:
    """What observers may be told, in the past tense; only the first process of a run tells."""

    @fact
    def run_started(self, recipe: Recipe, output: Path) -> None:
        """Tell once, after the recipe was validated and before anything is built."""

    @fact
    def metrics_logged(self, stage: str, step: int, values: Mapping[str, Any]) -> None:
        """Tell whenever a stage has numbers; ``step`` counts what the stage counts."""

    @fact
    def checkpoint_saved(self, step: int, path: Path) -> None:
        """Tell when a checkpoint is whole on disk."""

    @fact
    def artifact_exported(self, exporter: str, path: Path, difference: float) -> None:
        """Tell when an artifact is written; ``difference`` is its largest distance from the eager policy."""

    @fact
    def run_finished(self, error: BaseException | None) -> None:
        """Tell once, at the end; ``error`` is None on success."""


FACTS = tuple(name for name in vars(Facts) if not name.startswith("_"))
"""The names of the facts, in the order of a run."""


class Observers:
    """Tells every observer each fact; one that fails is reported on stderr and dropped, and the run goes on.

    Raises ``BrokenComponent`` when an observer marks a method that is no fact, or asks for unknown arguments.
    """

    def __init__(self, observers: Iterable[object] = ()) -> None:
        self._managers: dict[str, pluggy.PluginManager] = {}
        for observer in observers:
            self._add(observer)

    @property
    def tell(self) -> Facts:
        """The facts as methods with keyword arguments: ``tell.checkpoint_saved(step=1, path=path)``."""
        return cast("Facts", _Teller(self._managers))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the observers that are still listening."""
        return tuple(self._managers)

    def _add(self, observer: object) -> None:
        name = getattr(observer, "name", type(observer).__name__)
        manager = pluggy.PluginManager(PROJECT)  # one each: pluggy stops at the first listener that raises
        manager.add_hookspecs(Facts)
        try:
            manager.register(observer)
            manager.check_pending()
        except pluggy.PluginValidationError as error:
            package = type(observer).__module__.partition(".")[0]
            raise BrokenComponent(
                "observer", name, package, f"{error} (facts: {', '.join(FACTS)})"
            ) from error
        while name in self._managers:
            name += "'"
        self._managers[name] = manager


class _Teller:
    def __init__(self, managers: dict[str, pluggy.PluginManager]) -> None:
        self._managers = managers

    def __getattr__(self, name: str) -> Any:
        if name not in FACTS:
            raise AttributeError(f"observers are not told '{name}'; the facts are {', '.join(FACTS)}")

        def tell(**values: Any) -> None:
            for observer, manager in list(self._managers.items()):
                try:
                    getattr(manager.hook, name)(**values)
                except Exception as error:  # whatever a stranger's observer raises must not end the run
                    del self._managers[observer]
                    reason = f"{type(error).__name__}: {error}"
                    sys.stderr.write(f"observer '{observer}' failed at {name} and is dropped: {reason}\n")

        return tell
