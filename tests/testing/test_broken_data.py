"""A check that cannot fail is worth nothing: robots, worlds and data that break one promise each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from pydantic import field_serializer

from openvla_toolkit.core.contract import Dimension
from openvla_toolkit.core.types import Episode
from openvla_toolkit.interfaces.transform import TransformConfig
from openvla_toolkit.testing import (
    DotsConfig,
    DotsEpisodesConfig,
    DotsRobotConfig,
    check_dataset,
    check_embodiment,
    check_environment,
    check_transform,
)
from openvla_toolkit.testing.fakes.episodes import DotsEpisodes
from openvla_toolkit.testing.fakes.world import DotsWorld

X = Dimension(name="x", unit="m", reference="delta")


# --- settings


class ForgetfulConfig(DotsRobotConfig):
    """Loses a field on the way into JSON."""

    name: Literal["dots-robot"] = "dots-robot"

    @field_serializer("control_hz")
    def _lose(self, value: float) -> float:
        return 1.0


def test_settings_must_survive_json() -> None:
    with pytest.raises(AssertionError, match="the same settings after JSON"):
        check_embodiment(ForgetfulConfig())


def test_a_component_of_another_kind_is_refused() -> None:
    with pytest.raises(AssertionError, match="expected a subclass of EmbodimentConfig"):
        check_embodiment(DotsConfig())  # type: ignore[arg-type]


# --- robots and worlds


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"action": (X, X)}, r"names of their own, found \['x'\] twice"),
        ({"cameras": {}}, "at least one camera, found none"),
        ({"state": (X.model_copy(update={"rotation": "quat_xyzw"}),)}, "quat_xyzw rotations of 4 numbers"),
    ],
)
def test_an_embodiment_that_makes_no_sense(changes: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        check_embodiment(DotsRobotConfig(**changes))


class _ForgetsSeed(DotsWorld):
    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Any:
        return super().reset(seed=None, options=options)


class _SameEverywhere(DotsWorld):
    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Any:
        return super().reset(seed=0, options=options)


class _SwapsTheScene(DotsWorld):
    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Any:
        options = options or {}
        return super().reset(seed=(seed or 0) + 100 * bool(options.get("swap")), options=options)


class _DeafToSwap(DotsWorld):
    def reset(self, *, seed: int | None = None, options: Mapping[str, Any] | None = None) -> Any:
        return super().reset(seed=seed, options={**(options or {}), "swap": False})


class _SeesFloats(DotsWorld):
    def _observe(self) -> Mapping[str, Any]:
        seen = dict(super()._observe())
        return {**seen, "observation.images.wrist": seen["observation.images.wrist"] / 255}


class _Silent(DotsWorld):
    def _observe(self) -> Mapping[str, Any]:
        return {**super()._observe(), "task": ""}


class _NoVerdict(DotsWorld):
    def _info(self) -> Mapping[str, Any]:
        return {"family": self._family, "is_success": None}


class _ShortExpert(DotsWorld):
    def expert_action(self) -> Any:
        return super().expert_action()[:2]


class _Endless(DotsWorld):
    def step(self, action: Any) -> Any:
        observation, reward, _, _, info = super().step(action)
        return observation, reward, False, False, info


class AnyWorldConfig(DotsConfig):
    """Builds the world it is told to."""

    def build(self) -> DotsWorld:
        return WORLDS[self.max_steps](self)


WORLDS: list[type[DotsWorld]] = [
    DotsWorld,
    _ForgetsSeed,
    _SameEverywhere,
    _SwapsTheScene,
    _DeafToSwap,
    _SeesFloats,
    _Silent,
    _NoVerdict,
    _ShortExpert,
    _Endless,
]


@pytest.mark.parametrize(
    ("world", "complaint"),
    [
        (_ForgetsSeed, "to repeat the episode exactly"),
        (_SameEverywhere, "other episodes for other seeds"),
        (_SwapsTheScene, "'swap' to leave the scene as it is"),
        (_DeafToSwap, "'swap' to name another object"),
        (_SeesFloats, r"'observation\.images\.wrist' as uint8 \(32, 32, 3\), found float64"),
        (_Silent, "an instruction as 'task', found ''"),
        (_NoVerdict, r"info\['is_success'\] as a truth value, found None"),
        (_ShortExpert, "the expert to give 3 finite numbers"),
        (_Endless, "an episode to end"),
    ],
)
def test_a_world_that_breaks_a_promise(
    world: type[DotsWorld], complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("openvla_toolkit.testing.worlds._LONGEST", 30)
    with pytest.raises(AssertionError, match=f"environment 'dots': .*{complaint}"):
        check_environment(AnyWorldConfig(max_steps=WORLDS.index(world)))


# --- data


class _Wraps(DotsEpisodes):
    def __getitem__(self, position: int) -> Episode:
        return super().__getitem__(position % len(self))


class _Renamed(DotsEpisodes):
    count = 0

    def describe(self) -> Any:
        _Renamed.count += 1
        return replace(super().describe(), fingerprint=str(_Renamed.count))


class _ManyCameras(DotsEpisodes):
    def describe(self) -> Any:
        return replace(super().describe(), cameras=("primary", "ceiling"))


class _DamagedPicture(DotsEpisodes):
    def image(self, address: np.void) -> bytes:
        return super().image(address)[:20]


class _DoubleActions(DotsEpisodes):
    def __getitem__(self, position: int) -> Episode:
        episode = super().__getitem__(position)
        return replace(episode, actions=episode.actions.astype(np.float64))  # type: ignore[arg-type]


class _NotANumber(DotsEpisodes):
    def __getitem__(self, position: int) -> Episode:
        episode = super().__getitem__(position)
        return replace(episode, actions=np.full_like(episode.actions, np.nan))


class _FewWords(DotsEpisodes):
    def __getitem__(self, position: int) -> Episode:
        return replace(super().__getitem__(position), instructions=["go"])


class _LostFrame(DotsEpisodes):
    def __getitem__(self, position: int) -> Episode:
        episode = super().__getitem__(position)
        return replace(episode, images={name: one[1:] for name, one in episode.images.items()})


class _SwapsWhatIsAhead(DotsEpisodes):
    def ahead(self, addresses: Any) -> list[bytes]:
        return [self.image(address) for address in addresses[::-1]]


class _Unstable(DotsEpisodes):
    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._episodes = self._episodes[::-1]


DATASETS = [
    (_SwapsWhatIsAhead, r"ahead\(\) to give the images of dots/\d as image\(\) does, .*, found others"),
    (_Wraps, "an IndexError at position 4, past the end, found item"),
    (_Renamed, r"describe\(\) to repeat itself"),
    (_ManyCameras, r"cameras that its robot has .*, found \['ceiling'\]"),
    (_DamagedPicture, "an RGB image of camera 'primary' at .*, found cannot decode 20 bytes"),
    (_DoubleActions, r"actions as float32 \(\d+, 3\), found float64"),
    (_NotANumber, "actions that are finite, found NaN"),
    (_FewWords, r"\d+ instructions, one per frame, found 1"),
    (_LostFrame, r"\d+ addresses \(ADDRESS_FIELDS\) of camera 'primary'"),
    (_Unstable, "item 0 to be the same on a pickled copy"),
]


class AnyEpisodesConfig(DotsEpisodesConfig):
    """Builds the data set it is told to."""

    def build(self) -> DotsEpisodes:
        return DATASETS[self.seed][0](self)


@pytest.mark.parametrize(("dataset", "complaint"), DATASETS)
def test_a_data_set_that_breaks_a_promise(dataset: type[DotsEpisodes], complaint: str) -> None:
    number = [one for one, _ in DATASETS].index(dataset)
    with pytest.raises(AssertionError, match=f"dataset 'dots-episodes': expected {complaint}"):
        check_dataset(AnyEpisodesConfig(seed=number))


def test_settings_that_read_something_else_need_a_fingerprint_of_their_own() -> None:
    config = DotsEpisodesConfig(episodes=2)
    check_dataset(config, others=[DotsEpisodesConfig(episodes=1), DotsEpisodesConfig(episodes=2, seed=7)])
    with pytest.raises(AssertionError, match=r"expected a fingerprint of its own for .*weight=2"):
        check_dataset(config, others=[DotsEpisodesConfig(episodes=2, weight=2)])


def _in_place(trajectory: Any) -> Any:
    trajectory["action"] *= 2
    return trajectory


def _uneven(trajectory: Any) -> Any:
    return {**trajectory, "action": trajectory["action"][1:]}


def _random(trajectory: Any) -> Any:
    return {"action": np.random.default_rng().normal(size=(6, 2))}


TRANSFORMS = {"in-place": _in_place, "uneven": _uneven, "random": _random, "none": lambda trajectory: None}


class AnyTransformConfig(TransformConfig):
    """Returns the function it is told to."""

    name: Literal["any"] = "any"
    which: str

    def build(self) -> Any:
        return TRANSFORMS[self.which]


@pytest.mark.parametrize(
    ("which", "complaint"),
    [
        ("in-place", "its argument to be left as it was"),
        ("uneven", "one number of frames for all keys"),
        ("random", "a pickled copy to give the same answer"),
        ("none", "a mapping of arrays, found NoneType"),
    ],
)
def test_a_transform_that_breaks_a_promise(which: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=f"transform 'any': expected {complaint}"):
        check_transform(AnyTransformConfig(which=which))
