"""A data card in words, for terminals and pages alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from openvla_toolkit.core.contract import Camera, Dimension
from openvla_toolkit.pipeline.data_card.card import DataCard

__all__ = ["facts", "title"]

_BARS = "▁▂▃▄▅▆▇█"


def title(card: DataCard) -> str:
    """Return name, version, kind and split on one line."""
    parts = [f"{card.name} {card.version or ''}".strip(), card.kind]
    return " · ".join(parts + ([f"split {card.split}"] if card.split else []))


def facts(card: DataCard) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield what is known, as label and lines."""
    robot, lengths, words, motion = card.robot, card.lengths, card.wording, card.motion
    yield (
        "Robot",
        [
            f"{robot.control_hz:g} actions per second",
            *(f"camera {name}: {_camera(one)}" for name, one in robot.cameras.items()),
            f"action, {len(robot.action)}: {_vector(robot.action)}",
            f"state, {len(robot.state)}: {_vector(robot.state)}" if robot.state else "no state",
        ],
    )
    if card.splits:
        yield "Splits", [", ".join(f"{name} {count:,} episodes" for name, count in card.splits.items())]
    yield (
        "Episodes",
        [
            f"{card.episodes:,} with {_several(card.frames, 'frame')}, {_duration(card.seconds)} in all",
            f"{lengths.shortest:,} to {lengths.longest:,} frames, median {lengths.median:,.0f}, mean "
            f"{lengths.mean:,.1f}  {_sparkline(lengths.counts)}",
        ],
    )
    yield "Samples", list(_samples(card))
    yield (
        "Pictures",
        [
            f"{found.camera}: "
            + ", ".join(f"{width} x {height}" for height, width in found.sizes)
            + f" {'/'.join(found.formats)}, {found.looked_at} looked at"
            for found in card.pictures
        ]
        or ["none"],
    )
    yield (
        "Instructions",
        [
            f"{words.texts:,} different"
            + (f", {words.empty_frames:,} frames without" if words.empty_frames else "")
            + (f", changing within {words.changing_episodes:,} episodes" if words.changing_episodes else ""),
            *(f"{count:,} x {text}" for text, count in words.frequent),
        ],
    )
    yield (
        "Motion",
        [
            f"none in {_percent(motion.no_op)} of the frames (LIBERO's rule), slight in "
            f"{_percent(motion.slight)}"
        ],
    )
    for grip in card.grips:
        moved = (
            "never moves"
            if grip.open is None
            else f"open in {_percent(grip.open)} of the frames, at the start of "
            f"{_percent(grip.open_at_start or 0)} of the episodes"
        )
        yield "Gripper", [f"{grip.name} ({grip.polarity}): {moved}"]


def _samples(card: DataCard) -> Iterator[str]:
    yield f"{card.samples:,} of {card.frames:,} frames"
    of = f"of {_several(card.traced, 'episode')} looked at"
    for worn in card.worn:
        parts = [f"takes {_several(worn.frames, 'frame')} away"] if worn.frames else []
        parts += [f"lets {_several(worn.samples, 'frame')} make no sample"] if worn.samples else []
        yield f"{worn.transform['name']}: {', '.join(parts) or 'takes nothing away'} ({of})"
    for dropped in card.filtered:
        amount = f"{_several(dropped.episodes, 'episode')} of {_several(dropped.frames, 'frame')}"
        yield f"filter {dropped.reason}: without {amount}"
    if card.rule is not None:
        clipped = ", clipped to [-1, 1]" if card.rule.clip else ""
        yield (
            f"limits are of numbers that {card.rule.method} normalised{clipped}; a policy with another "
            "'normalization' may lose other episodes"
        )
    if card.skipped:
        yield f"damaged: {_several(len(card.skipped), 'episode')}"


def _camera(camera: Camera) -> str:
    turned = f", turned by {camera.rotation}°" if camera.rotation else ""
    return f"{camera.width} x {camera.height}{turned}"


def _vector(dimensions: Sequence[Dimension]) -> str:
    """Name the numbers, those of one unit and reference together."""
    parts = []
    for (unit, reference), some in groupby(dimensions, key=lambda one: (one.unit, one.reference)):
        names = " ".join(f"{one.name}{f' ({one.gripper})' if one.gripper else ''}" for one in some)
        parts.append(f"{names} [{'' if unit == '1' else unit + ', '}{reference}]")
    return ", ".join(parts)


def _sparkline(counts: Sequence[int]) -> str:
    most = max(counts)
    return "".join(_BARS[-(-(len(_BARS) - 1) * count // most)] for count in counts)


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"
