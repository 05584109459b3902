"""What of a data card deserves a second look, and the words that mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from openvla_toolkit.pipeline.data_card.card import DataCard
from openvla_toolkit.pipeline.data_card.measures import Measure

__all__ = ["Concern", "concerns"]

MANY_IDLE = 0.05
"""Share of frames without movement above which it is worth a word."""
SATURATED = 0.05
STRETCHED = 20.0
FEW_OPEN = 0.25
"""Share of episodes that begin with an open gripper below which the polarity is in doubt."""
AGAINST = -0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """One thing to look after."""

    what: str
    remedy: str
    lines: str = ""
    """What to add to the data set in the recipe, or to what it names."""


def concerns(card: DataCard) -> list[Concern]:
    """Return what should be looked after, the gravest first."""
    return [concern for check in CHECKS for concern in check(card)]


def _damage(card: DataCard) -> Iterator[Concern]:
    if card.skipped:
        first = card.skipped[0]
        yield Concern(
            what=f"{_several(len(card.skipped), 'episode')} cannot be read; number {first.episode}: "
            f"{first.reason}",
            remedy="Copy or download the files again; or leave these episodes out, counted:",
            lines="on_error: skip",
        )
    for camera in card.pictures:
        for place, reason in list(camera.damaged.items())[:1]:
            yield Concern(
                what=f"{len(camera.damaged)} of {camera.looked_at} pictures of '{camera.camera}' are "
                f"damaged; {place}: {reason}",
                remedy="Mend the data; or let other frames stand in for such, counted:",
                lines="on_error: skip",
            )


def _sizes(card: DataCard) -> Iterator[Concern]:
    for found in card.pictures:
        described = card.robot.cameras.get(found.camera)
        seen = {f"{width} x {height}" for height, width in found.sizes}
        told = None if described is None else f"{described.width} x {described.height}"
        if found.sizes and told is not None and seen != {told}:
            yield Concern(
                what=f"Pictures of '{found.camera}' are {' and '.join(sorted(seen))}, described as {told}.",
                remedy="A policy is told the described size: correct the embodiment's camera.",
            )


def _gripper(card: DataCard) -> Iterator[Concern]:
    for grip in card.grips:
        other = "open_low" if grip.polarity == "open_high" else "open_high"
        if grip.agreement is not None and grip.agreement < AGAINST:
            yield Concern(
                what=f"'{grip.name}' of the action moves against the gripper of the state "
                f"(correlation {grip.agreement:.2f}, both as the robot's description reads them).",
                remedy=f"One of the two is described the wrong way round: look at a film strip, then give "
                f"the embodiment 'gripper: {other}', or turn the numbers round with a transform.",
            )
        elif grip.open_at_start is not None and grip.open_at_start < FEW_OPEN:
            yield Concern(
                what=f"'{grip.name}' is open at the start of only {_percent(grip.open_at_start)} of the "
                f"episodes, read as {grip.polarity}.",
                remedy="Most tasks begin with an open gripper: look at a film strip. If it is the wrong way "
                f"round, give the embodiment 'gripper: {other}', or turn the numbers round.",
            )
        elif grip.open is None:
            yield Concern(
                what=f"'{grip.name}' never moves.",
                remedy="Right for a robot without a gripper; else the wrong column was read.",
            )


def _words(card: DataCard) -> Iterator[Concern]:
    words = card.wording
    if words.empty_episodes:
        yield Concern(
            what=f"The robot is told nothing in {_several(words.empty_episodes, 'episode')}.",
            remedy="A run refuses them unless it is told what to do; as OpenVLA does:",
            lines="filters: {unlabeled: drop}",
        )
    elif words.empty_frames:
        yield Concern(
            what=f"The robot is told nothing in {_several(words.empty_frames, 'frame')}.",
            remedy="They are trained on with an empty instruction: mend the data if they should not be.",
        )
    if words.texts == 1:
        told = [text for text, _ in words.frequent]
        yield Concern(
            what=f"There is one instruction only{f': {told[0]!r}' if told else ''}.",
            remedy="A policy learns to ignore it: mix in other tasks if it is to listen.",
        )
    if words.alike_groups:
        one = " / ".join(f"'{text}'" for text in words.alike[0])
        yield Concern(
            what=f"{_several(words.alike_groups, 'instruction')} stand there in several forms that differ by "
            f"case, spaces or punctuation only: {one}.",
            remedy="Case does not matter (prompts are lower-cased); mend the rest in the data.",
        )


def _idle(card: DataCard) -> Iterator[Concern]:
    motion = card.motion
    if max(motion.no_op, motion.slight) < MANY_IDLE:
        return
    what = (
        f"Nothing moves in {_percent(motion.no_op)} of the frames (LIBERO's rule), hardly anything in "
        f"{_percent(motion.slight)}."
    )
    if any(one.transform["name"] == "skip-idle" for one in card.worn):
        yield Concern(what=what, remedy="Samples are made of the moving ones only: skip-idle is set already.")
    elif motion.relative:
        transforms = [one.transform for one in card.worn]
        transforms.append({"name": "skip-idle", "threshold": list(motion.thresholds)})
        yield Concern(
            what=what,
            remedy="A policy may learn to stand still: make no samples of such frames:",
            lines=f"transforms: {_flow(transforms)}",
        )
    else:
        yield Concern(
            what=what,
            remedy="A policy may learn to stand still: leave such frames out with a transform "
            "('openvla new transform NAME').",
        )


def _dimensions(card: DataCard) -> Iterator[Concern]:
    actions = [one for one in card.measures if one.vector == "action" and not one.gripper]
    if dead := [one for one in actions if one.constant]:
        yield Concern(
            what=f"{_named(dead)} of the action never {_verb(dead, 'changes', 'change')}.",
            remedy="A constant becomes 0 for the policy, and comes back as it was. Right for motions that "
            "this robot does not have; else the wrong column was read.",
        )
    if narrow := [one for one in actions if not one.constant and one.q01 == one.q99]:
        yield Concern(
            what=f"{_named(narrow)} of the action {_verb(narrow, 'has', 'have')} one value between the 1 % "
            "and 99 % quantiles: 'bounds_q99' makes the rest -1 or 1.",
            remedy="Normalise by the extremes:",
            lines="policy: {normalization: openvla-bounds}",
        )
    if full := [one for one in actions if one.q01 < one.q99 and one.saturated > SATURATED]:
        worst = max(full, key=lambda one: one.saturated)
        yield Concern(
            what=f"{_named(full)} of the action {_verb(full, 'stands', 'stand')} at an end of the range in "
            f"many frames ({worst.name}: {_percent(worst.saturated)}).",
            remedy="Commands were clipped when they were recorded, or the dimension is a switch.",
        )
    if wide := [one for one in actions if STRETCHED < one.stretch < float("inf")]:
        worst = max(wide, key=lambda one: one.stretch)
        yield Concern(
            what=f"{_named(wide)} of the action {_verb(wide, 'has', 'have')} outliers: {worst.name} reaches "
            f"from {worst.min:.3g} to {worst.max:.3g}, 98 % lie from {worst.q01:.3g} to {worst.q99:.3g}.",
            remedy="'bounds_q99', the default, clips them; 'bounds' would leave little for the rest.",
        )


def _twins(card: DataCard) -> Iterator[Concern]:
    if card.twins.episodes:
        yield Concern(
            what=f"The actions of {_several(card.twins.episodes, 'episode')} are those of another: "
            f"{' = '.join(card.twins.examples[0])}.",
            remedy="Copies in training and validation make the measure too good: mend the data.",
        )


def _samples(card: DataCard) -> Iterator[Concern]:
    episodes = card.episodes
    if card.samples == 0:
        yield Concern(
            what="No sample is left: "
            + (", ".join(f"{one.reason} drops {one.episodes:,} of {episodes:,}" for one in card.filtered))
            + ".",
            remedy="Loosen 'filters' of the data set.",
        )


CHECKS: list[Callable[[DataCard], Iterator[Concern]]] = [
    _damage, _samples, _sizes, _gripper, _words, _idle, _dimensions, _twins,
]  # fmt: skip


def _several(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _verb(some: list[Measure], one: str, several: str) -> str:
    return one if len(some) == 1 else several


def _named(some: list[Measure]) -> str:
    return ", ".join(f"'{one.name}'" for one in some)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _flow(value: Any) -> str:
    """Write plain data as YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)
