"""Open-loop evaluation: what the policy would have done in recorded states.

Shape legend: N frames compared, H actions of a chunk, A action dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Contract, compare
from openvla_toolkit.core.errors import ContractMismatch, DataError
from openvla_toolkit.core.images.decoding import decode
from openvla_toolkit.core.statistics import Statistics, normalize, select_statistics
from openvla_toolkit.core.types import DataDescription, Episode, Observation, Sample
from openvla_toolkit.evaluators.histograms import action_histograms

if TYPE_CHECKING:
    from openvla_toolkit.evaluators import OpenLoopConfig
    from openvla_toolkit.interfaces.dataset import Dataset
    from openvla_toolkit.interfaces.evaluator import Progress
    from openvla_toolkit.interfaces.policy import Policy

__all__ = ["OpenLoop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """One recorded moment: what was seen, and the H actions that followed."""

    observation: Observation
    actions: NDArray[np.float32]


class OpenLoop:
    """Predicts the actions of evenly spaced frames and compares them with the recorded ones."""

    def __init__(self, config: OpenLoopConfig) -> None:
        self.config = config

    def evaluate(self, policy: Policy, folder: Path, progress: Progress) -> Mapping[str, Any]:
        """Compare and return the figures; nothing else is worth keeping.

        Raises:
            ContractMismatch: the data was recorded with another robot or other cameras.
            DataError: no episode is as long as one action chunk, or the bytes are damaged.
        """
        config = self.config
        config.data.prepare()
        data = config.data.build()
        description = data.describe()
        name = description.name
        key = agreed_key(config, description, policy.contract, policy.statistics)
        statistics = select_statistics(policy.statistics, key)
        started = perf_counter()
        comparison = _Comparison(policy, statistics, dataset=name)
        frames = list(evenly_spaced(data, config.frames, horizon=policy.contract.chunk, seed=config.seed))
        progress(0, {"total": len(frames)})
        for first in range(0, len(frames), config.batch):
            share = [_read(data, *place, policy=policy) for place in frames[first : first + config.batch]]
            comparison.add(share, unnorm_key=key)
            progress(comparison.frames, {"total": len(frames), **comparison.headline()})
        return {
            "evaluator": config.name,
            "dataset": name,
            **comparison.figures(),
            "seconds": round(perf_counter() - started, 3),
        }


def agreed_key(
    config: OpenLoopConfig,
    description: DataDescription,
    contract: Contract,
    statistics: Mapping[str, Statistics],
) -> str | None:
    """Return the key of the statistics that recordings are compared with.

    Raises:
        ContractMismatch: the policy was not made for these recordings, or has no statistics for them.
    """
    if description.robot is None:
        raise ContractMismatch(
            f"data set '{description.name}' holds no robot episodes: open-loop needs recorded actions."
        )
    compare(contract, description.robot, world_name=f"data set '{description.name}'")
    key = config.unnorm_key or (description.name if description.name in statistics else None)
    select_statistics(statistics, key)
    return key


def evenly_spaced(data: Dataset[Any], count: int, *, horizon: int, seed: int) -> Iterator[tuple[int, int]]:
    """Yield (episode, frame) of at most ``count`` frames that have ``horizon`` actions ahead.

    The episodes are evenly spaced over the data set and the frames over each episode; ``seed`` decides where
    the first ones lie. No more than ``count`` episodes are read.

    Raises:
        DataError: no episode is long enough.
    """
    rng = np.random.default_rng(seed)
    episodes = _spread(len(data), count, float(rng.random()))
    shares = np.diff(np.linspace(0, count, len(episodes) + 1).round().astype(int))
    found = False
    for position, share in zip(episodes, shares, strict=True):
        length = len(data[position]) - horizon + 1
        for frame in _spread(length, int(share), float(rng.random())):
            found = True
            yield position, frame
    if not found:
        raise DataError(
            f"no episode has {horizon} frames, the length of one action chunk of the policy.",
            file=data.describe().name,
        )


def _spread(length: int, count: int, phase: float) -> list[int]:
    """Return at most ``count`` evenly spaced positions below ``length``; ``phase`` in [0, 1) shifts them."""
    count = min(count, max(length, 0))
    return [int((step + phase) * length / count) for step in range(count)]


def _read(data: Dataset[Any], position: int, frame: int, *, policy: Policy) -> _Frame:
    """Read one frame with the views that the policy looks at."""
    episode: Episode = data[position]
    contract = policy.contract
    return _Frame(
        observation=Observation(
            images={camera: decode(data.image(episode.images[camera][frame])) for camera in contract.cameras},
            instruction=episode.instructions[frame],
            state=None if episode.states is None else episode.states[frame],
        ),
        actions=episode.actions[frame : frame + contract.chunk],
    )


class _Comparison:
    """Predicted and recorded actions so far."""

    def __init__(self, policy: Policy, statistics: Statistics, *, dataset: str) -> None:
        self._policy, self._statistics, self._dataset = policy, statistics, dataset
        self._predicted: list[NDArray[np.float64]] = []
        self._recorded: list[NDArray[np.float32]] = []
        self._hits: list[NDArray[np.bool_]] = []

    @property
    def frames(self) -> int:
        """How many frames were compared."""
        return len(self._recorded)

    def add(self, frames: Sequence[_Frame], *, unnorm_key: str | None) -> None:
        """Ask the policy about some frames."""
        chunks = self._policy.predict_chunks([frame.observation for frame in frames], unnorm_key=unnorm_key)
        for frame, chunk in zip(frames, chunks, strict=True):
            self._predicted.append(chunk.actions)
            self._recorded.append(frame.actions)
            if chunk.tokens is not None:
                self._hits.append(chunk.tokens == self._recorded_tokens(frame).reshape(chunk.tokens.shape))

    def headline(self) -> dict[str, float]:
        """Return the running figures."""
        figures = {"l1": float(np.abs(self._normalized_difference()).mean())}
        if self._hits:
            figures["token_accuracy"] = float(np.mean(self._hits))
        return figures

    def figures(self) -> dict[str, Any]:
        """Return everything as plain data."""
        dimensions = self._policy.contract.robot.action
        predicted, recorded = np.stack(self._predicted), np.stack(self._recorded)
        units = np.abs(predicted - recorded).mean(axis=(0, 1))
        normalized = np.abs(self._normalized_difference()).mean(axis=(0, 1))
        accuracy = np.mean(self._hits, axis=(0, 1)) if self._hits else None
        rows = [
            {
                "name": dimension.name,
                "unit": dimension.unit,
                "l1": round(float(units[index]), 6),
                "l1_normalized": round(float(normalized[index]), 6),
                **({} if accuracy is None else {"token_accuracy": round(float(accuracy[index]), 6)}),
            }
            for index, dimension in enumerate(dimensions)
        ]
        flat: dict[str, NDArray[np.floating[Any]]] = {
            "policy": predicted.reshape(-1, len(dimensions)),
            "recorded": recorded.reshape(-1, len(dimensions)),
        }
        return {
            "frames": self.frames,
            **self.headline(),
            "dimensions": rows,
            "actions": {"dimensions": action_histograms(dimensions, flat)},
            "summary": _summary(self.headline(), rows, frames=self.frames, dataset=self._dataset),
        }

    def _normalized(self, actions: NDArray[Any]) -> NDArray[np.float32]:
        return normalize(actions, self._statistics.action, self._policy.contract.normalization)

    def _normalized_difference(self) -> NDArray[np.float32]:
        return self._normalized(np.stack(self._predicted)) - self._normalized(np.stack(self._recorded))

    def _normalized_state(self, state: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
        proprio = self._statistics.proprio
        if state is None or proprio is None or not self._policy.contract.uses_state:
            return None
        return normalize(state, proprio, self._policy.contract.normalization)

    def _recorded_tokens(self, frame: _Frame) -> NDArray[np.int64]:
        """Return the tokens [H * A] that training would have asked for in this frame, without the end."""
        labels = self._policy.processor.encode(
            Sample(
                images=frame.observation.images,
                state=self._normalized_state(frame.observation.state),
                actions=self._normalized(frame.actions),
                instruction=frame.observation.instruction,
                dataset=self._dataset,
            )
        )["labels"]
        tokens = labels.astype(np.int64)
        return tokens[tokens >= 0][: frame.actions.size]


def _summary(
    headline: Mapping[str, float], rows: Sequence[Mapping[str, Any]], *, frames: int, dataset: str
) -> list[str]:
    tokens = (
        f"token accuracy {100 * headline['token_accuracy']:.1f} %, " if "token_accuracy" in headline else ""
    )
    width = max(len(row["name"]) for row in rows)
    return [f"{tokens}L1 {headline['l1']:.4f} (normalised) over {frames} frames of {dataset}"] + [
        f"  {row['name']:<{width}}  L1 {row['l1']:.5f} {row['unit']} ({row['l1_normalized']:.4f} normalised)"
        for row in rows
    ]
