"""What the training figures were in the end, also where there is too little for curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from openvla_toolkit.core.pages.axes import number

__all__ = ["LastValues", "last_values"]

PERCENT = ("token_accuracy", "text_accuracy", "mfu", "data_wait")
FIGURES = {
    "loss": "Loss",
    "token_accuracy": "Action token accuracy",
    "text_accuracy": "Text token accuracy",
    "l1": "Action L1 (normalised)",
    "grad_norm": "Gradient norm",
    "lr": "Learning rate",
    "samples_per_second": "Samples per second",
    "tokens_per_second": "Tokens per second",
    "mfu": "Use of the device's peak (MFU)",
    "peak_memory_gb": "Peak memory [GB]",
    "data_wait": "Share of time waiting for data",
}
"""Those of all samples, in this order; ``<figure>.<dimension>`` and ``<figure>/<data set>`` follow them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastValues:
    """One table: a column for each stage that measured, a row for each figure."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]


def last_values(stages: Mapping[str, Sequence[Mapping[str, Any]]]) -> LastValues | None:
    """Return the last value of every known figure of training and of held-out data; None without any.

    Args:
        stages: stage -> its metrics, by ascending step.
    """
    titles = {"train": "training", "validation": "held-out data"}
    measured = {stage: rows for stage in titles if (rows := stages.get(stage))}
    last = [{key: value for row in rows for key, value in row.items()} for rows in measured.values()]
    keys = [key for key in dict.fromkeys(key for one in last for key in one) if _figure(key) in FIGURES]
    if not keys:
        return None
    return LastValues(
        columns=[f"{titles[stage]}, step {rows[-1]['step']}" for stage, rows in measured.items()],
        rows=[(_title(key), [_text(one, key) for one in last]) for key in sorted(keys, key=_place)],
    )


def _figure(key: str) -> str:
    """Return the figure that a metric is of: ``l1`` of ``l1.x`` and of ``l1/demos``."""
    return key.partition("/")[0].partition(".")[0]


def _title(key: str) -> str:
    figure = _figure(key)
    part = key[len(figure) + 1 :]
    return f"{FIGURES[figure].partition(' (')[0]} of {part}" if part else FIGURES[figure]


def _place(key: str) -> tuple[bool, bool, int]:
    """Bring what is of all samples first, dimensions next and data sets last; else as they were logged."""
    figure = _figure(key)
    return "/" in key, key != figure, list(FIGURES).index(figure)


def _text(values: Mapping[str, Any], key: str) -> str:
    if key not in values:
        return "\u2013"
    if (value := values[key]) is None:
        return "not finite"
    return f"{100 * value:.1f}\u00a0%" if _figure(key) in PERCENT else number(value)
