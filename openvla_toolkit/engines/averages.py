"""A running mean of the trained parameters, spread as they are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from openvla_toolkit.core.sections import EMA

__all__ = ["Averages"]

_MEAN, _WEIGHT = "ema", "weight"


class Averages:
    """Follows the parameters in fp32; beginning with their values, so that it needs no correction.

    It is saved beside the optimizer's moments, as one more of them. Where the mean is what checkpoints hold,
    the parameters themselves are saved there as well, to train on from.
    """

    def __init__(self, settings: EMA, trained: Mapping[str, nn.Parameter]) -> None:
        self._settings, self._trained = settings, trained
        self._means = {name: _copy(parameter) for name, parameter in trained.items()}
        self._steps = 0

    @torch.no_grad()
    def follow(self) -> None:
        """Count one step, and take the weights in when it is time."""
        self._steps += 1
        if self._steps % self._settings.every == 0:
            for name, mean in self._means.items():
                mean.lerp_(self._trained[name].detach().float(), 1 - self._settings.decay)

    def moments(self) -> dict[str, Mapping[str, Tensor]]:
        """Return what is saved, moment -> name -> values; nothing before the first step."""
        if not self._steps:
            return {}
        kept: dict[str, Mapping[str, Tensor]] = {_MEAN: self._means}
        return kept | ({_WEIGHT: self._trained} if self._settings.use else {})

    @torch.no_grad()
    def restore(self, moments: Mapping[str, dict[str, Tensor]]) -> None:
        """Take what is this one's out of the moments of each parameter."""
        for name, own in moments.items():
            self._means[name] = own.pop(_MEAN)
            if self._settings.use:
                self._trained[name].copy_(own.pop(_WEIGHT))
            self._steps = int(own["step"])

    def used(self) -> Mapping[str, Tensor]:
        """Return the means that checkpoints hold in place of weights; none where they hold the weights."""
        return self._means if self._settings.use else {}


def _copy(parameter: nn.Parameter) -> Tensor:
    return parameter.detach().to(torch.float32, copy=True)
