"""Optimizer state in torch's distributed checkpoint format, random state beside it, one file per rank.

training_state/
    .metadata  __0_0.distcp ...      AdamW's moments, ``<moment>/<parameter>``, spread as the ranks had them
    random-00000.safetensors ...     each rank's random state
    parameters.json                  which are trained, with moments or without yet; steps of the running mean
"""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from openvla_toolkit.checkpoints.layout import way_past
from openvla_toolkit.checkpoints.tensors import write_tensors
from openvla_toolkit.core.errors import CheckpointError, StorageError
from openvla_toolkit.core.processes import are_joined, lost_ranks_named, saving_group
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.storage import storage_errors

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = [
    "STEP",
    "averaged_steps",
    "host_copy",
    "load_optimizer",
    "load_random",
    "read_moments",
    "save_state",
    "stored_moments",
    "whole_copies",
]

STEP = "step"
"""The moment that counts steps; all others have the shape of their parameter."""

_RECORD = "parameters.json"
_TRAINED, _AVERAGED = "trained", "averaged_steps"

_DAMAGED = (CheckpointException, OSError, EOFError, LookupError, RuntimeError, ValueError, pickle.PickleError)
"""What torch raises over files that are cut short, or hold something else."""
_ALONE = "torch.distributed is"
"""How torch begins to warn that it saves or loads in one process: here that is meant so."""


def host_copy(value: Tensor) -> Tensor:
    """Return a copy on the CPU that later steps do not touch, spread as the original is."""
    return value.detach().to("cpu", copy=True)


def whole_copies(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return copies on the CPU in rank 0, of spread tensors whole; one at a time passes through a device."""
    first = Ranks.here().is_first
    copies: dict[str, Tensor] = {}
    for name, value in named:
        if isinstance(value, DTensor):
            whole = value.full_tensor()  # all ranks take part
            if first:
                copies[name] = host_copy(whole)
        elif first:
            copies[name] = host_copy(value)
    return copies


def save_state(
    moments: Mapping[str, Tensor], device: torch.device, *, trained: Iterable[str], averaged: int = 0
) -> Callable[[Path], None]:
    """Copy the random state; return what writes it and the moments, in every rank, on any thread.

    Args:
        moments: ``<moment>/<parameter>`` -> this rank's values; a parameter without any has had no step yet.
        trained: names of all parameters that are trained.
        averaged: steps that a running mean of the weights has followed.
    """
    random = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        random["cuda"] = torch.cuda.get_rng_state(device)
    recorded = json.dumps({_TRAINED: list(trained), _AVERAGED: averaged}, indent=1)

    def write(folder: Path) -> None:
        write_tensors(folder / _random_file(Ranks.here().rank), random)
        writer = FileSystemWriter(folder)
        with storage_errors(folder), _written_whole(folder), warnings.catch_warnings():
            if Ranks.here().is_first:
                (folder / _RECORD).write_text(recorded, encoding="utf-8")
            warnings.filterwarnings("ignore", message=_ALONE)
            save(dict(moments), storage_writer=writer, process_group=saving_group())

    return write


def load_optimizer(folder: Path, trained: Mapping[str, nn.Parameter]) -> dict[str, dict[str, Tensor]]:
    """Return AdamW's moments of every parameter that has had a step, spread as the parameters are.

    Raises:
        CheckpointError: the state is damaged, or of other parameters; names the first.
    """
    stored = stored_moments(folder, {name: parameter.shape for name, parameter in trained.items()})
    moments = {
        name: {
            key: torch.zeros(()) if key == STEP else torch.zeros_like(trained[name], requires_grad=False)
            for key in keys
        }
        for name, keys in stored.items()
    }
    read_moments(folder, moments, group=saving_group(), alone=not are_joined())
    for name, own in moments.items():
        if STEP in own:
            own[STEP] = own[STEP].to(trained[name].device)
    return moments


def stored_moments(folder: Path, trained: Mapping[str, torch.Size]) -> dict[str, list[str]]:
    """Return which moments are stored of each parameter, whose shapes are given.

    A parameter that has had no step yet has none and is left out.

    Raises:
        CheckpointError: the state is damaged, or of other parameters; names the first.
    """
    with _read_whole(folder):
        metadata = FileSystemReader(folder).read_metadata().state_dict_metadata
        sizes = {key: entry.size for key, entry in metadata.items()}  # type: ignore[union-attr]
    moments: dict[str, list[str]] = {}
    for key, size in sizes.items():
        moment, name = key.split("/", 1)
        shape = trained.get(name)
        if shape is None or (moment != STEP and size != shape):
            found = "does not train it" if shape is None else f"gives it shape {list(shape)}"
            raise CheckpointError(
                f"{folder} holds '{key}' {list(size)}, and this policy {found}: it is a checkpoint of other "
                "settings."
            )
        moments.setdefault(name, []).append(moment)
    _check_trained(folder, trained, moments)
    return moments


def averaged_steps(folder: Path) -> int | None:
    """Return how many steps the running mean has followed; None where the state is older than this count.

    Raises:
        CheckpointError: the state is damaged.
    """
    recorded = _recorded(folder)
    return None if recorded is None else int(recorded[_AVERAGED])


def read_moments(
    folder: Path,
    moments: Mapping[str, dict[str, Tensor]],
    *,
    group: ProcessGroup | None = None,
    alone: bool = True,
) -> None:
    """Fill tensors, spread or whole, with what is stored: parameter -> moment -> tensor.

    Args:
        group: the processes that read together.
        alone: this process reads without the others.

    Raises:
        CheckpointError: the state is damaged.
    """
    places = {f"{moment}/{name}": place for name, own in moments.items() for moment, place in own.items()}
    with _read_whole(folder), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=_ALONE)
        reader = FileSystemReader(folder)
        if alone and torch.distributed.is_initialized():  # a word that older torch lacks
            load(places, storage_reader=reader, no_dist=True)
        else:
            load(places, storage_reader=reader, process_group=group)
    for name, own in moments.items():
        for moment in own:
            own[moment] = places[f"{moment}/{name}"]


def load_random(folder: Path, device: torch.device) -> None:
    """Restore this rank's random state; by another number of ranks, take one that follows from rank 0's.

    Raises:
        CheckpointError: it is damaged.
    """
    ranks = Ranks.here()
    written = len(list(folder.glob(_random_file("*"))))
    own = written == ranks.world_size
    random = _read(folder / _random_file(ranks.rank if own else 0))
    torch.set_rng_state(random["cpu"])
    if not own:
        torch.manual_seed(int(torch.randint(2**62, ())) + ranks.rank)
    elif "cuda" in random and device.type == "cuda":
        torch.cuda.set_rng_state(random["cuda"], device)


def _check_trained(folder: Path, trained: Iterable[str], moments: Collection[str]) -> None:
    """Refuse a state of a training that trained other parameters than these."""
    recorded = _recorded(folder)
    if recorded is None:  # older states say nothing of what had had no step
        if missing := [name for name in trained if moments and name not in moments]:
            raise CheckpointError(
                f"{folder} holds nothing of '{missing[0]}', which this policy trains: it is a checkpoint of "
                "other settings, or one without a step of that parameter, which older versions could not "
                "go on from. Begin a new run with its weights (policy.weights)."
            )
        return
    then = recorded[_TRAINED]
    if added := [name for name in trained if name not in set(then)]:
        raise CheckpointError(
            f"{folder} was saved where '{added[0]}' was not trained, and this policy trains it: it is a "
            "checkpoint of other settings."
        )
    if gone := sorted(set(then) - set(trained)):
        raise CheckpointError(
            f"{folder} was saved where '{gone[0]}' was trained, and this policy does not train it: it is a "
            "checkpoint of other settings."
        )


def _recorded(folder: Path) -> dict[str, Any] | None:
    """Return what ``parameters.json`` holds; None in states that were written before it was."""
    path = folder / _RECORD
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return {_TRAINED: list(held[_TRAINED]), _AVERAGED: int(held[_AVERAGED])}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. {way_past(path)}") from error


def _random_file(rank: int | str) -> str:
    return f"random-{rank:05d}.safetensors" if isinstance(rank, int) else f"random-{rank}.safetensors"


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}. {way_past(path)}") from error


@contextmanager
def _read_whole(folder: Path) -> Iterator[None]:
    """Turn what torch says of files that are damaged or missing into a CheckpointError."""
    try:
        with lost_ranks_named():
            yield
    except _DAMAGED as error:
        raise CheckpointError(
            f"the training state in {folder} cannot be read: {_reason(error)}. {way_past(folder)}"
        ) from error


@contextmanager
def _written_whole(folder: Path) -> Iterator[None]:
    """Turn torch's collection of what went wrong in which rank into the operating system's own error."""
    try:
        with lost_ranks_named():
            yield
    except CheckpointException as error:
        for rank, (problem, _) in error.failures.items():
            if isinstance(problem, OSError):
                raise problem from error
            raise StorageError(f"rank {rank} cannot write its part of {folder}: {problem!r}.") from error
        raise


def _reason(error: BaseException) -> str:
    if isinstance(error, CheckpointException) and error.failures:
        error = next(iter(error.failures.values()))[0]
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
