"""A running mean of the trained parameters, spread as they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from openvla_toolkit.checkpoints.training_state import STEP, averaged_steps
from openvla_toolkit.core.errors import CheckpointError
from openvla_toolkit.core.sections import EMA

__all__ = ["Averages", "refuse_averages"]

_MEAN, _WEIGHT = "ema", "weight"


class Averages:
    """Follows the parameters in fp32; beginning with their values, so that it needs no correction.

    It is saved beside the optimizer's moments, as one more of them. Where the mean is what checkpoints hold,
    the parameters themselves are saved there as well, to train on from.
    """

    def __init__(self, settings: EMA, trained: Mapping[str, nn.Parameter]) -> None:
        self._settings, self._trained = settings, trained
        self._means = {name: _copy(parameter) for name, parameter in trained.items()}
        self.steps = 0
        """How many were counted."""

    @torch.no_grad()
    def follow(self) -> None:
        """Count one step, and take the weights in when it is time."""
        self.steps += 1
        if self.steps % self._settings.every == 0:
            for name, mean in self._means.items():
                mean.lerp_(self._trained[name].detach().float(), 1 - self._settings.decay)

    def moments(self) -> dict[str, Mapping[str, Tensor]]:
        """Return what is saved, moment -> name -> values; nothing before the first step."""
        if not self.steps:
            return {}
        kept: dict[str, Mapping[str, Tensor]] = {_MEAN: self._means}
        return kept | ({_WEIGHT: self._trained} if self._settings.use else {})

    @torch.no_grad()
    def restore(self, moments: Mapping[str, dict[str, Tensor]], folder: Path) -> None:
        """Take what is this one's out of the moments of each parameter, which were read from a folder.

        Raises:
            CheckpointError: steps were taken without a running mean.
        """
        if any(_MEAN not in own for own in moments.values()):
            raise CheckpointError(
                f"{folder} holds no running mean of the weights, and train.optimizer.ema asks for one: go on "
                "with train.optimizer.ema=null, or begin a new run with the checkpoint's weights "
                "(policy.weights)."
            )
        for name, own in moments.items():
            self._means[name] = own.pop(_MEAN)
            if _WEIGHT in own:  # else the checkpoint's weights are the trained ones
                self._trained[name].copy_(own.pop(_WEIGHT))
        steps = averaged_steps(folder)
        if steps is None:  # older states count the steps of every parameter alone, which are all the same
            steps = max((int(own[STEP]) for own in moments.values()), default=0)
        self.steps = steps

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Put the means where the weights are, if checkpoints hold them, and the weights back at the end."""
        kept = {name: self._trained[name].detach().clone() for name in self.used()}
        try:
            self._take(self.used())
            yield
        finally:
            self._take(kept)

    @torch.no_grad()
    def _take(self, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            self._trained[name].copy_(value)

    def used(self) -> Mapping[str, Tensor]:
        """Return the means that checkpoints hold in place of weights; none where they hold the weights."""
        return self._means if self._settings.use else {}


def refuse_averages(moments: Mapping[str, Mapping[str, Tensor]], folder: Path) -> None:
    """Refuse a state with a running mean where none is kept: its weights may be the mean.

    Raises:
        CheckpointError: it has one.
    """
    if any(_MEAN in own for own in moments.values()):
        raise CheckpointError(
            f"{folder} holds a running mean of the weights, and this training keeps none: give "
            "train.optimizer.ema as it was, or begin a new run with the checkpoint's weights "
            "(policy.weights)."
        )


def _copy(parameter: nn.Parameter) -> Tensor:
    return parameter.detach().to(torch.float32, copy=True)
