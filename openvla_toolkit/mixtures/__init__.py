"""Mixtures: several data sets as one entry of a recipe's ``data``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

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
    root: Path
    """The folder that holds ``<dataset>/<version>`` of every member."""
    split: str = "train"
    """Read of every member; the original reads ``train[:95%]`` where a member has no split ``val``."""
    cameras: list[str] = Field(default=["primary"], min_length=1)
    """Cameras that every member must have; others are left out."""
    on_error: Literal["stop", "skip"] = "stop"
    """What to do about a member that is not there or lacks a camera: stop, or warn and leave it out."""

    def build(self) -> Sequence[DatasetConfig]:
        """Return the members.

        Raises:
            RecipeError: there is no such mixture, a member lacks a camera, or no member can be read.
            MissingFile: a member does not exist.
        """
        from openvla_toolkit.mixtures.open_x import members

        return members(self)


class WeightedConfig(MixtureConfig):
    """Data sets of any kind, each as often as its weight times its frames says."""

    name: Literal["weighted"] = "weighted"
    data: list[AnyDataset] = Field(min_length=1)
    """The members; their weights count within the mixture."""

    def build(self) -> Sequence[DatasetConfig]:
        """Return the members."""
        return self.data
