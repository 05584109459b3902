"""Let an environment's scripted expert act, and write what it does as an RLDS data set."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from openvla_toolkit.core.contract import Interface
from openvla_toolkit.core.errors import DataError, OpenVLAError, RecipeError, did_you_mean
from openvla_toolkit.core.locks import locked
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.storage import storage_errors
from openvla_toolkit.core.worker import available_cores, end_with_the_run
from openvla_toolkit.datasets.expert_episodes import (
    Demonstration,
    Plan,
    demonstrate,
    episode_features,
    image_key,
)
from openvla_toolkit.datasets.rlds.card import CARD, DatasetCard, load_card
from openvla_toolkit.datasets.rlds.writer import RLDSWriter, sweep_unfinished

if TYPE_CHECKING:
    from openvla_toolkit.datasets import DemonstrationsConfig

__all__ = ["prepare"]

VERSION = "1.0.0"
SETTINGS = ("environment", "episodes", "seed", "families", "noise", "noise_scale", "keep_failures")
"""What the content of the data set depends on."""
ATTEMPTS_PER_EPISODE = 4
"""An expert that needs more than this is broken, not unlucky."""


def prepare(config: DemonstrationsConfig, *, report: Callable[[int, int], None] | None = None) -> None:
    """Generate the data set that ``config`` describes, unless it is there already."""
    families = _families(config)
    settings = config.model_dump(mode="json", include=set(SETTINGS)) | {"families": list(families)}
    folder = config.root / config.dataset / VERSION
    if not folder.exists():
        with storage_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        with locked(folder.parent, wait=True):  # another run may be making it
            if not folder.exists():
                sweep_unfinished(folder.parent, VERSION)
                _generate(config, families, settings, report)
    _compare(settings, folder / CARD)


def _generate(
    config: DemonstrationsConfig,
    families: tuple[str, ...],
    settings: dict[str, Any],
    report: Callable[[int, int], None] | None,
) -> None:
    interface = config.environment.interface()
    plan = Plan(
        environment=config.environment,
        interface=interface,
        families=families,
        seed=config.seed,
        noise=config.noise,
        noise_scale=config.noise_scale,
    )
    with RLDSWriter(
        config.root,
        dataset=config.dataset,
        version=VERSION,
        features=episode_features(interface),
        description=f"Demonstrations of the scripted expert of the environment '{config.environment.name}'.",
        card=_card(interface, settings),
    ) as writer:
        for done, data in enumerate(_kept(plan, config), start=1):
            writer.write_serialized(data)
            if report is not None:
                report(done, config.episodes)


def _kept(plan: Plan, config: DemonstrationsConfig) -> Iterator[bytes]:
    """Yield the episodes to keep, in the order of their numbers, whoever made them."""
    kept = attempts = 0
    limit = config.episodes * ATTEMPTS_PER_EPISODE + len(plan.families)
    with _makers(plan, config.workers or available_cores()) as make:
        while kept < config.episodes:
            # Small portions: results wait in memory until they are written.
            portion = range(attempts, attempts + min(config.episodes - kept, 256))
            for demonstration in make(portion):
                attempts += 1
                if demonstration.success or config.keep_failures:
                    kept += 1
                    yield demonstration.data
            if kept < config.episodes and attempts >= limit:
                raise DataError(
                    f"the expert of the environment '{config.environment.name}' succeeded in {kept} of "
                    f"{attempts} attempts, too few to go on. Lower noise or noise_scale, "
                    "or set keep_failures: true.",
                    key="episodes",
                )


@contextmanager
def _makers(plan: Plan, workers: int) -> Iterator[Callable[[range], Iterator[Demonstration]]]:
    """Give a function that makes attempts in this process or, in order, in several spawned ones."""
    if workers == 1:
        environment = plan.environment.build()
        try:
            yield lambda numbers: map(partial(demonstrate, environment, plan), numbers)
        finally:
            environment.close()
        return
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(plan,)
    )
    try:
        yield lambda numbers: pool.map(_demonstrate_in_worker, numbers, chunksize=4)
    except BrokenProcessPool as error:
        raise OpenVLAError(
            f"a process that generates demonstrations died ({error}). "
            "Its own message stands above, if it left one; with workers: 1 all is done in one process."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_worker: dict[str, Any] = {}


def _start_worker(plan: Plan) -> None:
    """Make this process's own environment, once; leave it to the run to decide what Ctrl-C means."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_the_run()
    _worker.update(environment=plan.environment.build(), plan=plan)


def _demonstrate_in_worker(number: int) -> Demonstration:
    return demonstrate(_worker["environment"], _worker["plan"], number)


def _families(config: DemonstrationsConfig) -> tuple[str, ...]:
    known = config.environment.families()
    for family in config.families or ():
        if family not in known:
            raise RecipeError(
                f"the environment '{config.environment.name}' has no task family '{family}'."
                f"{did_you_mean(family, known)} There are: {', '.join(known)}.",
                path="families",
            )
    return tuple(config.families or known)


def _compare(settings: Mapping[str, Any], path: Any) -> None:
    """Accept a data set that is there only if it was made with the same settings."""
    made = load_card(path).generated if path.is_file() else None
    place = path.parent.parent
    remedy = f"Delete {place}, or choose another name for dataset."
    if made is None:
        raise RecipeError(
            f"{path.parent} exists, but was not generated from an environment. {remedy}", path="dataset"
        )
    other = [key for key in settings if made.get(key) != settings[key]]
    if other:
        lines = [f"  {key}: made with {made.get(key)}, asked for {settings[key]}" for key in other]
        raise RecipeError(
            "\n".join([f"{path.parent} was generated with other settings:", *lines, remedy]), path="dataset"
        )


def _card(interface: Interface, settings: dict[str, Any]) -> DatasetCard:
    """Describe the data set for its readers; its robot is whatever the environment has."""
    robot = load("embodiment", "custom").model_validate(
        {"name": "custom", **interface.model_dump(mode="json", exclude_defaults=True)}
    )
    return DatasetCard.model_validate(
        {
            "cameras": {name: image_key(name) for name in interface.cameras},
            "state": ["state"] if interface.state else [],
            "embodiment": robot,
            "generated": settings,
        }
    )
