"""Evaluations as the report shows them: before and after side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from markupsafe import Markup

from openvla_toolkit.core.pages.charts import histogram
from openvla_toolkit.observers.report.run_folder import Evaluation

__all__ = ["Histogram", "Measured", "Strip", "measured"]


CLOSED_LOOP = {"success", "families", "criterion", "seeds", "seconds", "steps_per_second"}
OPEN_LOOP = {"frames", "dataset", "l1", "dimensions"}
"""Figures that have these keys are shown as those of the built-in evaluators; others by their summary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """One film strip with what it shows."""

    path: Path
    task: str
    success: bool
    swap: bool
    seed: int
    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """One action dimension."""

    name: str
    unit: str
    constant: float | None
    """The value that every source always has, if they do; there is nothing to draw then."""
    svg: Markup
    sources: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One evaluator of the recipe: its last figures, and those before training where there are any."""

    evaluator: str
    last: Evaluation
    before: Evaluation | None

    @property
    def figures(self) -> Mapping[str, Any]:
        """Figures of the trained policy, or of the only one."""
        return self.last.figures

    @property
    def form(self) -> Literal["closed-loop", "open-loop", "other"]:
        """Which evaluator's figures these are like."""
        if self.figures.keys() >= CLOSED_LOOP:
            return "closed-loop"
        return "open-loop" if self.figures.keys() >= OPEN_LOOP else "other"

    @property
    def rates(self) -> list[tuple[str, Mapping[str, Any] | None, Mapping[str, Any]]]:
        """All tasks, then each family: name, rate before, rate after."""
        after = _rates(self.figures)
        before = {} if self.before is None else _rates(self.before.figures)
        return [(name, before.get(name), rate) for name, rate in after.items()]

    @property
    def probes(self) -> list[tuple[str, Mapping[str, Any]]]:
        """The swap probes that were made: when, and the rate."""
        runs = [("before", self.before), ("after", self.last)]
        return [
            (when, one.figures["swap_probe"]) for when, one in runs if one and one.figures.get("swap_probe")
        ]

    @property
    def strips(self) -> list[tuple[str, list[Strip]]]:
        """Film strips of the last evaluation by family, the swap probe last."""
        return _strips(self.last)

    @property
    def strips_before(self) -> list[tuple[str, list[Strip]]]:
        """One film strip of each family before training."""
        if self.before is None:
            return []
        return [(family, strips[:1]) for family, strips in _strips(self.before) if family != "swap probe"]

    @property
    def histograms(self) -> list[Histogram]:
        """Distributions of the actions, one per dimension."""
        if self.form == "other":
            return []
        dimensions = (self.figures.get("actions") or {}).get("dimensions", ())
        return [_histogram(one) for one in dimensions]

    @property
    def failures(self) -> list[Mapping[str, Any]]:
        """Episodes that did not succeed, the swap probe not counted."""
        return [one for one in self.last.episodes if not one["success"] and not one["swap"]]


def measured(evaluations: Sequence[Evaluation]) -> list[Measured]:
    """Pair the evaluations of one evaluator; one that was only made before training stands for itself."""
    result = []
    for _, group in groupby(evaluations, key=lambda one: (one.position, one.evaluator)):
        runs = {one.when: one for one in group}
        before = runs.pop("before", None)
        last = next(iter(runs.values()), None)
        if last is not None:
            result.append(Measured(evaluator=last.evaluator, last=last, before=before))
        elif before is not None:
            result.append(Measured(evaluator=before.evaluator, last=before, before=None))
    return result


def _rates(figures: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {"all tasks": figures["success"], **figures["families"]}


def _strips(evaluation: Evaluation) -> list[tuple[str, list[Strip]]]:
    def group(entry: Mapping[str, Any]) -> str:
        return "swap probe" if entry["swap"] else str(entry["family"])

    kept = [one for one in evaluation.figures.get("filmstrips", ()) if one["file"]]
    names: Iterable[str] = dict.fromkeys(map(group, kept))
    return [
        (name, _one_of_each_first([_strip(evaluation, one) for one in kept if group(one) == name]))
        for name in names
    ]


def _one_of_each_first(strips: Sequence[Strip]) -> list[Strip]:
    """Bring the first success and the first failure to the front."""
    won = [strip for strip in strips if strip.success]
    lost = [strip for strip in strips if not strip.success]
    return won[:1] + lost[:1] + won[1:] + lost[1:]


def _strip(evaluation: Evaluation, entry: Mapping[str, Any]) -> Strip:
    return Strip(
        path=evaluation.folder / entry["file"],
        task=entry["task"],
        success=entry["success"],
        swap=entry["swap"],
        seed=entry["seed"],
        steps=entry["steps"],
    )


def _histogram(entry: Mapping[str, Any]) -> Histogram:
    edges, counts = entry["edges"], entry["counts"]
    used = {at for values in counts.values() for at, count in enumerate(values) if count}
    middle = (edges[0] + edges[-1]) / 2
    return Histogram(
        name=entry["name"],
        unit=entry["unit"],
        constant=round(middle, 6) + 0.0 if len(used) == 1 else None,
        svg=histogram(edges, counts, title=f"{entry['name']} by {' and '.join(counts)}"),
        sources=list(counts),
    )
