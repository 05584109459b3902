"""Checks of whole policies."""

from __future__ import annotations

import pickle
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from openvla_toolkit.core.contract import Contract, FrameRecipe, Interface
from openvla_toolkit.core.errors import ContractMismatch
from openvla_toolkit.core.types import Observation, Sample
from openvla_toolkit.interfaces.policy import Policy, PolicyConfig
from openvla_toolkit.testing.fakes.dots import DotsRobotConfig
from openvla_toolkit.testing.fakes.linear import unit_statistics
from openvla_toolkit.testing.verdict import check_settings, expect

__all__ = ["check_policy"]

_NAME = "check"
_INSTRUCTIONS = ("touch the red dot", "go", "grip the blue dot and lift it up")


def check_policy(config: PolicyConfig, *, robot: Interface | None = None) -> None:
    """Check a policy on noise, for a robot (by default the fake one); pick small settings, it is executed.

    Checked: the settings; that the contract is the robot's; that the processor can be pickled and gives plain
    arrays of equal keys; that the loss is a finite sum over a positive count and is lowered by a small step
    against its gradient; that ``frame`` is part of the contract and all that the policy sees of a picture;
    that answers are [chunk, A], finite, and the same alone as in a batch; that an unknown ``unnorm_key`` is a
    ContractMismatch; that a saved policy, given as ``weights``, answers the same.
    """
    check_settings(config, PolicyConfig)
    robot = robot or DotsRobotConfig().build()
    policy = config.build(robot=robot, statistics={_NAME: unit_statistics(robot)})
    _check_contract(config, policy.contract, robot)
    observations = [_observation(policy.contract, number) for number in range(len(_INSTRUCTIONS))]
    _check_processor(config, policy, observations)
    _check_learning(config, policy, observations)
    _check_frames(config, robot)
    policy.module.eval()
    _check_answers(config, policy, observations)
    with tempfile.TemporaryDirectory() as folder:
        policy.save(Path(folder))
        again = type(config).model_validate({"weights": folder}).build()
        expect(
            again.contract == policy.contract,
            config,
            expected="a saved policy to keep its contract",
            found=again.contract,
        )
        for one, other in zip(_answers(policy, observations), _answers(again, observations), strict=True):
            same = np.allclose(one, other, atol=1e-6)
            expect(same, config, expected=f"a saved policy to answer {one}", found=other)


def _check_contract(config: PolicyConfig, contract: Contract, robot: Interface) -> None:
    expect(isinstance(contract, Contract), config, expected="a Contract", found=type(contract).__name__)
    expect(
        contract.robot == robot,
        config,
        expected="the contract to hold the robot it was given",
        found=contract.robot,
    )
    strangers = [camera for camera in contract.cameras if camera not in robot.cameras]
    expect(not strangers, config, expected=f"cameras of the robot ({list(robot.cameras)})", found=strangers)


def _check_processor(config: PolicyConfig, policy: Policy, observations: list[Observation]) -> None:
    copy = pickle.loads(pickle.dumps(policy.processor))
    samples = [_sample(policy.contract, observation) for observation in observations]
    items = [copy.encode(sample) for sample in samples]
    for item, sample in zip(items, samples, strict=True):
        again = policy.processor.encode(sample)
        same = item.keys() == again.keys() and all(np.array_equal(item[key], again[key]) for key in item)
        expect(same, config, expected="a pickled processor to encode the same", found="another encoding")
        objects = [key for key, value in item.items() if np.asarray(value).dtype == object]
        expect(not objects, config, expected="plain numbers", found=f"objects in {objects}")
    batch = copy.collate(items)
    sizes = {key: len(value) for key, value in batch.items()}
    enough = all(size >= len(items) for size in sizes.values())
    expect(bool(sizes) and enough, config, expected=f"a batch of {len(items)}", found=sizes)


def _check_frames(config: PolicyConfig, robot: Interface) -> None:
    frame = FrameRecipe(resample="fused", crop=0.25)
    framing = config.model_copy(update={"frame": frame})
    policy = framing.build(robot=robot, statistics={_NAME: unit_statistics(robot)})
    promised = policy.contract.images.frame
    expect(promised == frame, config, expected=f"a contract with the frame '{frame}'", found=promised)
    observation = _observation(policy.contract, 0)
    cut = {name: _without_border(picture) for name, picture in observation.images.items()}
    seen = policy.processor.encode_observation(observation)
    again = policy.processor.encode_observation(replace(observation, images=cut))
    same = all(np.array_equal(seen[key], again[key]) for key in seen)
    expect(same, config, expected="a policy to see its frame alone", found="one that sees the border")


def _without_border(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture whose outer eighth is black; a quarter of the area in the middle is far from it."""
    bare = np.zeros_like(picture)
    inside = tuple(slice(edge // 8, edge - edge // 8) for edge in picture.shape[:2])
    bare[inside] = picture[inside]
    return bare


def _check_learning(config: PolicyConfig, policy: Policy, observations: list[Observation]) -> None:
    encoded = [policy.processor.encode(_sample(policy.contract, observation)) for observation in observations]
    batch = {key: torch.from_numpy(value) for key, value in policy.processor.collate(encoded).items()}
    policy.module.eval()  # without dropout, so that two losses can be compared
    before = policy.loss(policy.module, batch)
    count, total = before.count.item(), before.total.item()
    expect(
        count > 0 and np.isfinite(total),
        config,
        expected="a finite loss over a positive count",
        found=(total, count),
    )
    before.total.backward()  # type: ignore[no-untyped-call]
    learning = [one for one in policy.module.parameters() if one.grad is not None]
    expect(bool(learning), config, expected="parameters that take a gradient", found="none")
    norm = float(
        torch.stack([one.grad.square().sum() for one in learning if one.grad is not None]).sum().sqrt()
    )
    with torch.no_grad():
        for parameter in learning:
            assert parameter.grad is not None
            parameter.sub_(1e-2 / norm * parameter.grad)
        after = policy.loss(policy.module, batch).total.item()
    policy.module.zero_grad()
    expect(
        after < total, config, expected=f"a step against the gradient to lower the loss {total}", found=after
    )


def _check_answers(config: PolicyConfig, policy: Policy, observations: list[Observation]) -> None:
    shape = (policy.contract.chunk, len(policy.contract.robot.action))
    together = _answers(policy, observations)
    expect(
        len(together) == len(observations),
        config,
        expected=f"{len(observations)} answers",
        found=len(together),
    )
    for observation, answer in zip(observations, together, strict=True):
        right = answer.shape == shape and bool(np.isfinite(answer).all())
        expect(right, config, expected=f"finite actions {shape}", found=answer)
        alone = _answers(policy, [observation])[0]
        same = np.allclose(alone, answer, atol=1e-4)
        expect(same, config, expected=f"an answer to be the same alone as in a batch, {alone}", found=answer)
    try:
        policy.predict_chunks(observations, unnorm_key="no such statistics")
    except ContractMismatch:
        return
    expect(False, config, expected="a ContractMismatch for an unknown unnorm_key", found="an answer")


def _answers(
    policy: Policy, observations: list[Observation]
) -> list[np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    return [chunk.actions for chunk in policy.predict_chunks(observations)]


def _observation(contract: Contract, number: int) -> Observation:
    generator = np.random.default_rng(number)
    sizes = {name: contract.robot.cameras[name] for name in contract.cameras}
    return Observation(
        images={
            name: generator.integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
            for name, camera in sizes.items()
        },
        instruction=_INSTRUCTIONS[number],
        state=generator.normal(size=len(contract.robot.state)).astype(np.float32),
    )


def _sample(contract: Contract, observation: Observation) -> Sample:
    width = len(contract.robot.action)
    actions = np.random.default_rng(len(observation.instruction)).uniform(-1, 1, (contract.chunk, width))
    return Sample(
        images=observation.images,
        state=observation.state,
        actions=actions.astype(np.float32),
        instruction=observation.instruction,
        dataset=_NAME,
    )
