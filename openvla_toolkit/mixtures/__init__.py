"""Mixtures: several data sets as one entry of a recipe's ``data``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from openvla_toolkit.core.component import bare_name
from openvla_toolkit.core.data_sections import Filters, Goals
from openvla_toolkit.core.locations import Location
from openvla_toolkit.interfaces.dataset import AnyDataset, DatasetConfig
from openvla_toolkit.interfaces.mixture import MixtureConfig

__all__ = ["OpenXConfig", "WeightedConfig"]


class OpenXConfig(MixtureConfig):
    """A mixture of Open X-Embodiment by the name that OpenVLA gives it (18, and 5 of OpenVLA-OFT).

    Of a data set that a mixture names twice, the first weight counts.
    """

    name: Literal["open-x"] = "open-x"
    mixture: str
    """``bridge``, ``bridge_rt_1``, ``rtx``, ``oxe_magic_soup``, ``oxe_magic_soup_plus``, ..."""
    root: Location
    """The folder, or URL, that holds ``<dataset>/<version>`` of every member."""
    split: str = "train"
    """Read of every member; the original reads ``train[:95%]`` where a member has no split ``val``."""
    cameras: list[str] = Field(default=["primary"], min_length=1)
    """Cameras that every member must have; others are left out."""
    filters: Filters = Filters(unlabeled="drop")
    """From which episodes of the members no samples are made."""
    goals: Annotated[Goals, BeforeValidator(bare_name)] = Goals()
    """Which later frame is shown as the goal to a policy that wants one."""
    on_error: Literal["raise", "skip"] = "raise"
    """What to do about a member that is not there or lacks a camera, and about damaged episodes and frames of
    the others: stop, or leave it out and say so."""

    def build(self) -> Sequence[DatasetConfig]:
        """Return the members.

        Raises:
            RecipeError: there is no such mixture, a member lacks a camera, or no member can be read.
            MissingFile: a member does not exist.
        """
        from openvla_toolkit.mixtures.open_x import members

        return members(self)

    def left_out(self) -> Mapping[str, str]:
        """Return the members that are not there or lack a camera, with ``on_error: skip``."""
        from openvla_toolkit.mixtures.open_x import left_out

        return left_out(self)


class WeightedConfig(MixtureConfig):
    """Data sets of any kind, each as often as its weight times its frames says."""

    name: Literal["weighted"] = "weighted"
    data: list[AnyDataset] = Field(min_length=1)
    """The members; their weights count within the mixture."""

    def build(self) -> Sequence[DatasetConfig]:
        """Return the members."""
        return self.data
