"""The sections of a recipe that say how data become batches."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, model_validator

from openvla_toolkit.core.component import ComponentConfig, Section, bare_name
from openvla_toolkit.core.contract import FrameRecipe
from openvla_toolkit.core.registry import by_name

__all__ = [
    "Augment",
    "Filters",
    "Frames",
    "Goals",
    "Loader",
    "Operation",
    "Prepare",
    "RandomCrop",
    "Shuffle",
]


def _rising(value: tuple[float, float]) -> tuple[float, float]:
    if not 0 <= value[0] <= value[1]:
        raise ValueError("a range goes from a number to one that is no smaller, both 0 or more.")
    return value


def _belongs(section: Goals | Shuffle, choice: str, *keys: str) -> None:
    """Refuse settings of ``choice`` where ``name`` is another; a default that is written out will do."""
    for key in keys:
        default = type(section).model_fields[key].default
        if section.name != choice and getattr(section, key) != default:
            raise ValueError(f"'{key}' is a setting of '{choice}', and 'name' is '{section.name}'.")


class Prepare(Section):
    """How data is made ready: read through once, indexed, measured."""

    executor: Annotated[
        SerializeAsAny[ComponentConfig], BeforeValidator(by_name("executor", default="processes"))
    ] = Field(default="processes", validate_default=True)
    """Where the work is done."""


class Filters(Section):
    """From which episodes of a data set no samples are made; statistics are of all episodes either way.

    They are applied in this order, to the numbers as the policy is given them: normalised. A normalisation
    that clips, as OpenVLA's does, leaves none beyond 1: a limit of 1 or more is refused there.
    """

    unlabeled: Literal["refuse", "drop", "keep"] = "refuse"
    """Episodes that tell the robot nothing at any frame; ``drop`` is what OpenVLA does."""
    max_action: float | None = Field(default=None, gt=0)
    """Drop episodes in which a number of an action is larger, either way; null for no limit."""
    max_state: float | None = Field(default=None, gt=0)
    """Drop episodes in which a number of a state is larger, either way; null for no limit."""


class Goals(Section):
    """Which later frame of the episode a policy is shown as its goal, where it wants one."""

    name: Literal["uniform", "last-upweighted", "geometric"] = "uniform"
    """``uniform``: any later frame; ``last-upweighted``: the later in the episode, the more often its last;
    ``geometric``: each frame later is ``discount`` times as likely."""
    discount: float = Field(default=0.99, gt=0, lt=1)
    """Of ``geometric``."""

    @model_validator(mode="after")
    def _discount_belongs_to_geometric(self) -> Goals:
        _belongs(self, "geometric", "discount")
        return self


class Shuffle(Section):
    """In which order the samples of a data set are drawn; either way each comes once per epoch."""

    name: Literal["global", "blocks"] = "global"
    """``global``: any sample can follow any other; ``blocks``: the data are read in blocks of neighbours, for
    disks and object stores that dislike random reads."""
    block: int = Field(default=1024, gt=0)
    """Of ``blocks``: consecutive samples that are read together; blocks are visited in random order."""
    window: int = Field(default=64, gt=0)
    """Of ``blocks``: how many blocks at a time are mixed completely."""

    @model_validator(mode="after")
    def _sizes_belong_to_blocks(self) -> Shuffle:
        _belongs(self, "blocks", "block", "window")
        return self


class Loader(Section):
    """How batches are prepared beside the training."""

    workers: int = Field(default=0, ge=0)
    """Processes that read and decode; 0 does it in the training process."""
    prefetch: int = Field(default=2, ge=1)
    """Batches that each worker keeps ready."""
    shuffle: Annotated[Shuffle, BeforeValidator(bare_name)] = Shuffle()
    """In which order samples are drawn."""


Operation = Literal[
    "random_resized_crop",
    "random_flip_left_right",
    "random_flip_up_down",
    "random_rot90",
    "random_brightness",
    "random_contrast",
    "random_saturation",
    "random_hue",
]
"""What augmentation can do to a picture, in the order in which it does by default; dlimp's names."""

Range = Annotated[tuple[float, float], AfterValidator(_rising)]


class RandomCrop(Section):
    """A part of the picture, enlarged to the whole."""

    scale: Range = (0.9, 0.9)
    """Share of the area that is kept, from and to."""
    ratio: Range = (1.0, 1.0)
    """Width to height, as shares of the picture's own, from and to."""

    @model_validator(mode="after")
    def _is_a_part(self) -> RandomCrop:
        if not (self.scale[0] > 0 and self.scale[1] <= 1 and self.ratio[0] > 0):
            raise ValueError("'scale' lies above 0 and at most at 1, 'ratio' above 0.")
        return self


class Augment(Section):
    """Random changes of every picture while training; the defaults are the original's.

    null, or false, leaves an operation out.
    """

    random_resized_crop: RandomCrop | None = RandomCrop()
    """A part of the picture, enlarged to the whole."""
    random_flip_left_right: bool = False
    """Mirror half of the pictures."""
    random_flip_up_down: bool = False
    """Turn half of the pictures upside down."""
    random_rot90: bool = False
    """Turn by 0 to 3 quarters of a circle."""
    random_brightness: float | None = Field(default=0.2, ge=0)
    """Share of white that is added or taken away at most."""
    random_contrast: Range | None = (0.8, 1.2)
    """Factor of the distance from the mean of the channel, from and to."""
    random_saturation: Range | None = (0.8, 1.2)
    """Factor of the saturation, from and to."""
    random_hue: float | None = Field(default=0.05, ge=0, le=0.5)
    """Share of the colour circle that the hue is turned by at most, either way."""
    order: tuple[Operation, ...] = get_args(Operation)
    """The order of the operations; a crop is always the first."""

    @model_validator(mode="after")
    def _in_order(self) -> Augment:
        wanted = [name for name in get_args(Operation) if getattr(self, name) not in (None, False)]
        if missing := [name for name in wanted if name not in self.order]:
            raise ValueError(f"'order' lacks {', '.join(missing)}; name it, or set it to null.")
        if len(set(self.order)) < len(self.order):
            raise ValueError("'order' names an operation twice.")
        if self.random_resized_crop is not None and self.order[0] != "random_resized_crop":
            raise ValueError("'order' must begin with random_resized_crop: a crop is made with the resize.")
        return self


class Frames(Section):
    """How a camera's picture becomes what the policy is trained on, and shown when it acts."""

    resample: Literal["original", "fused"] = "original"
    """``original``: resize, crop and change colours one by one, within one level of 256 of what OpenVLA does;
    ``fused``: crop and resize in one antialiased step, colours in another; ``original`` takes some 1.5 to 1.7
    times as much processor time."""
    augment: Augment | None = Augment()
    """Random changes while training; null for none."""

    @model_validator(mode="after")
    def _can_be_fused(self) -> Frames:
        order = [] if self.augment is None else [name for name in self.augment.order if name in _COLOURS]
        if self.resample == "fused" and order != [name for name in _COLOURS if name in order]:
            raise ValueError(
                f"'fused' changes colours in the order {', '.join(_COLOURS)}; 'original' takes any order."
            )
        return self

    def recipe(self) -> FrameRecipe:
        """Return what a policy that is trained so has to do when it acts."""
        crop = None if self.augment is None else self.augment.random_resized_crop
        return FrameRecipe(resample=self.resample, crop=None if crop is None else sum(crop.scale) / 2)


_COLOURS: tuple[Operation, ...] = get_args(Operation)[4:]
