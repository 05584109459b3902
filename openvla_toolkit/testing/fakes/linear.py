"""A policy with one linear layer: learns in milliseconds, keeps to the whole interface."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from openvla_toolkit.checkpoints.layout import CONFIG_FILE, CONTRACT_FILE, STATISTICS_FILE, WEIGHTS_FILE
from openvla_toolkit.checkpoints.load import BLOCK, policy_block
from openvla_toolkit.core.contract import Contract, FrameRecipe, ImageRecipe, Interface, refuse_windows
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.images.framing import framed
from openvla_toolkit.core.statistics import Moments, Statistics, select_statistics, unnormalize
from openvla_toolkit.core.types import ActionChunk, ConversationSample, Observation, Sample
from openvla_toolkit.interfaces.action_head import LossReport
from openvla_toolkit.interfaces.policy import PolicyConfig, Processor

__all__ = ["LinearPolicy", "LinearPolicyConfig", "LinearProcessor", "linear_policy", "unit_statistics"]

_GRID = 4


class LinearPolicyConfig(PolicyConfig):
    """Actions as a linear function of coarse pictures; blind to the instruction."""

    name: Literal["dots-linear"] = "dots-linear"
    cameras: tuple[str, ...] = ("primary",)
    """The cameras it looks at."""
    chunk: int = Field(default=1, gt=0)
    """Actions per answer."""
    seed: int = 0
    """Seed of the random initialisation."""

    def build(
        self, *, robot: Interface | None = None, statistics: Mapping[str, Statistics] | None = None
    ) -> LinearPolicy:
        """Make the policy, or load it from the folder that ``weights`` names."""
        if self.weights is not None:
            return LinearPolicy.load(Path(self.weights), frame=self.frame)
        if robot is None:
            raise UserError("a policy from scratch needs the robot of its data.")
        contract = Contract(
            robot=robot,
            cameras=self.cameras,
            chunk=self.chunk,
            images=ImageRecipe(
                size=_GRID, means=((0.5, 0.5, 0.5),), stds=((0.5, 0.5, 0.5),), frame=self.frame
            ),
        )
        return LinearPolicy(contract, statistics or {}, seed=self.seed)


@dataclass(frozen=True)
class LinearProcessor:
    """Pictures to a few mean colours; no torch, can be pickled."""

    contract: Contract

    def encode(self, sample: Sample | ConversationSample) -> dict[str, NDArray[np.generic]]:
        """Return ``features`` [F] and ``actions`` [H * A]."""
        if isinstance(sample, ConversationSample):
            raise UserError("the linear policy cannot learn from conversations.")
        return {"features": self._features(sample.images), "actions": sample.actions.reshape(-1)}

    def encode_observation(self, observation: Observation) -> dict[str, NDArray[np.generic]]:
        """Return ``features`` [F] of the pictures, framed as those of samples are."""
        images, recipe = dict(observation.images), self.contract.images
        if recipe.frame is not None:
            images = {
                name: framed(picture, recipe.frame, size=(_GRID, _GRID)) for name, picture in images.items()
            }
        return {"features": self._features(images)}

    def collate(
        self, items: Sequence[Mapping[str, NDArray[np.generic]]], *, side: str = "right"
    ) -> dict[str, NDArray[np.generic]]:
        """Stack; nothing has a length of its own, so ``side`` does not matter."""
        return {key: np.stack([item[key] for item in items]) for key in items[0]}

    def _features(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
        return np.concatenate([_coarse(images[camera]) for camera in self.contract.cameras])


class LinearPolicy:
    """One ``nn.Linear`` with squared error."""

    def __init__(self, contract: Contract, statistics: Mapping[str, Statistics], *, seed: int = 0) -> None:
        refuse_windows(contract, policy=LinearPolicyConfig.model_fields["name"].default)
        self.contract, self.statistics = contract, statistics
        self.processor: Processor = LinearProcessor(contract)
        self._shape = (contract.chunk, len(contract.robot.action))
        generator = torch.Generator().manual_seed(seed)
        self.module: nn.Module = nn.Linear(
            3 * _GRID**2 * len(contract.cameras), self._shape[0] * self._shape[1]
        )
        with torch.no_grad():
            for parameter in self.module.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)

    def loss(self, module: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        """Return the summed squared error; the mean distance is told as ``l1``."""
        difference = module(batch["features"]) - batch["actions"]
        count = torch.tensor(difference.numel())
        distance = difference.detach().float().abs()
        return LossReport(
            total=difference.float().square().sum(),
            count=count,
            metrics={"l1": (distance.sum(), count)},
            details={"l1": (distance, torch.ones_like(distance))},
        )

    def predict_chunks(
        self, observations: Sequence[Observation], *, unnorm_key: str | None = None
    ) -> list[ActionChunk]:
        """Return one chunk per observation, in the robot's units."""
        moments = select_statistics(self.statistics, unnorm_key).action
        batch = self.processor.collate([self.processor.encode_observation(one) for one in observations])
        features = torch.from_numpy(batch["features"]).to(next(self.module.parameters()).device)
        with torch.inference_mode():
            answers = self.module(features).cpu().numpy().reshape(-1, *self._shape)
        rule = self.contract.normalization
        return [ActionChunk(actions=unnormalize(answer, moments, rule)) for answer in answers]

    def weight_names(self) -> None:
        """Return None: a checkpoint holds all weights."""
        return

    def save(self, folder: Path, *, weights: Mapping[str, Tensor] | None = None) -> None:
        """Write weights, contract and statistics, and the settings that ``load_policy`` reads."""
        config = LinearPolicyConfig(cameras=self.contract.cameras, chunk=self.contract.chunk)
        (folder / CONFIG_FILE).write_text(json.dumps({BLOCK: policy_block(config)}))
        save_file(dict(weights or self.module.state_dict()), folder / WEIGHTS_FILE)
        (folder / CONTRACT_FILE).write_text(self.contract.model_dump_json())
        statistics = {name: entry.to_json() for name, entry in self.statistics.items()}
        (folder / STATISTICS_FILE).write_text(json.dumps(statistics))

    @classmethod
    def load(cls, folder: Path, *, frame: FrameRecipe | None = None) -> LinearPolicy:
        """Read what ``save`` wrote; ``frame`` replaces the contract's, if it is given."""
        told: dict[str, Any] = json.loads((folder / STATISTICS_FILE).read_text())
        contract = Contract.model_validate_json((folder / CONTRACT_FILE).read_text())
        if frame is not None:
            images = contract.images.model_copy(update={"frame": frame})
            contract = contract.model_copy(update={"images": images})
        policy = cls(
            contract,
            {name: Statistics.from_json(entry, place=name) for name, entry in told.items()},
        )
        policy.module.load_state_dict(load_file(folder / WEIGHTS_FILE))
        return policy


def linear_policy(robot: Interface, *, name: str = "fake", chunk: int = 1) -> LinearPolicy:
    """Return an untrained linear policy for a robot; it looks through the first camera."""
    config = LinearPolicyConfig(cameras=tuple(robot.cameras)[:1], chunk=chunk)
    return config.build(robot=robot, statistics={name: unit_statistics(robot)})


def unit_statistics(robot: Interface) -> Statistics:
    """Return statistics with which normalising changes nothing: bounds of -1 and 1; grippers are masked."""

    def moments(width: int, mask: NDArray[np.bool_]) -> Moments:
        zero, one = np.zeros(width), np.ones(width)
        return Moments(mean=zero, std=one, max=one, min=-one, q01=-one, q99=one, mask=mask)

    mask = np.array([dimension.gripper is None for dimension in robot.action])
    width = len(robot.state)
    return Statistics(
        action=moments(len(robot.action), mask),
        proprio=moments(width, np.ones(width, dtype=bool)) if width else None,
        num_transitions=1,
        num_trajectories=1,
    )


def _coarse(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the mean colours of a 4 x 4 grid, in [-1, 1], flat."""
    height, width = (edge // _GRID for edge in picture.shape[:2])
    cells = picture[: height * _GRID, : width * _GRID].reshape(_GRID, height, _GRID, width, 3)
    mean: NDArray[np.float32] = (cells.mean(axis=(1, 3)) / 127.5 - 1).astype(np.float32)
    return mean.reshape(-1)
