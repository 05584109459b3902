"""The processes of a run, joined: what they tell each other besides gradients.

All functions do the plain thing in a run of one process. What is told goes over groups of its own (gloo, on
the CPU), so that it never meets an engine's traffic; ``saving_group`` is for the thread that writes
checkpoints.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from openvla_toolkit.core.errors import RankLost
from openvla_toolkit.core.hooks import observe
from openvla_toolkit.core.ranks import Ranks

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

__all__ = [
    "COLLECTIVE_TIMEOUT",
    "PATIENCE",
    "Pulse",
    "after_first",
    "agreed",
    "are_joined",
    "by_first",
    "from_first",
    "gathered",
    "join",
    "leave",
    "lost_ranks_named",
    "saving_group",
    "told_while_saving",
]

T = TypeVar("T")

COLLECTIVE_TIMEOUT = timedelta(minutes=30)
"""How long a process waits for the others where all do the same: in a step, for a checkpoint on a slow disk.
A dead one is noticed at once, by its launcher and by its closed connections."""
PATIENCE = timedelta(minutes=30)
"""How long the others wait for the first one's next sign of progress while it works alone."""

_POLL = timedelta(seconds=0.2)
_LOST = ("Connection closed", "Connection reset", "Connection refused", "Broken pipe", "imed out", "NCCL")
"""What gloo, NCCL and the store say when another process is gone; so may others, of other things."""
_SPEAKER = re.compile(
    r"gloo|NCCL (communicator|error)|(closed|reset|refused)( by peer)? \[|waiting \d+ms for"
)
"""How gloo and NCCL are known, where torch hands on what they say as a plain RuntimeError."""


@dataclass(slots=True)
class _Joined:
    """This process's ties to the others."""

    store: Any
    control: ProcessGroup
    saving: ProcessGroup
    ours: bool
    """Whether the process group was made here, and so is to be ended here."""
    turns: int = 0
    """How often the first process has worked while the others waited."""


_joined: _Joined | None = None


def join(ranks: Ranks, *, device: str) -> None:
    """Meet the other processes; once met, do nothing.

    Args:
        device: ``cuda`` adds NCCL for what lies there; other devices use gloo.

    Raises:
        RankLost: not all of them came.
    """
    global _joined
    if _joined is not None:
        return
    import torch.distributed as dist
    from torch._C._distributed_c10d import HashStore
    from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

    ours = not dist.is_initialized()
    with lost_ranks_named():
        if ours:
            backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
            store = HashStore() if ranks.world_size == 1 else None
            dist.init_process_group(
                backend,
                rank=ranks.rank,
                world_size=ranks.world_size,
                store=store,
                timeout=COLLECTIVE_TIMEOUT,
            )
        _joined = _Joined(
            store=PrefixStore("openvla", _get_default_store()),
            control=dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT),
            saving=dist.new_group(backend="gloo", timeout=COLLECTIVE_TIMEOUT),
            ours=ours,
        )


def leave() -> None:
    """Part from the other processes, all at the same place; without having met, do nothing."""
    global _joined
    if _joined is not None and _joined.ours:
        import torch.distributed as dist

        dist.destroy_process_group()
    _joined = None


def are_joined() -> bool:
    """Tell whether there are other processes to talk to (or one pretends to be several)."""
    return _joined is not None


def saving_group() -> ProcessGroup | None:
    """Return the group of the threads that write checkpoints; None in a run of one process."""
    return None if _joined is None else _joined.saving


def gathered(value: T) -> list[T]:
    """Return every process's value, in the order of ranks."""
    if _joined is None:
        return [value]
    import torch.distributed as dist

    values: list[Any] = [None] * dist.get_world_size(_joined.control)
    with lost_ranks_named():
        dist.all_gather_object(values, value, group=_joined.control)
    return values


def agreed(number: int | None) -> int | None:
    """Return the largest number that any process has; None where none has one. All get the same answer."""
    if _joined is None:
        return number
    import torch
    import torch.distributed as dist

    largest = torch.tensor(number or 0)
    with lost_ranks_named():
        dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=_joined.control)
    return int(largest) or None


def from_first(value: T) -> T:
    """Return the first process's value."""
    return gathered(value if Ranks.here().is_first else None)[0]  # type: ignore[return-value]


def told_while_saving(value: T | None) -> T:
    """Return the first process's value; for the threads that write checkpoints."""
    if _joined is None:
        assert value is not None
        return value
    import torch.distributed as dist

    values = [value]
    with lost_ranks_named():
        dist.broadcast_object_list(values, src=0, group=_joined.saving)
    assert values[0] is not None
    return values[0]


def after_first(work: Callable[[], T]) -> T:
    """Work here after the first process has done the same, and find most of it done.

    The others wait as long as the first one makes progress (``Pulse``), and ``PATIENCE`` beyond that.

    Raises:
        RankLost: the first process failed, is gone, or makes no progress.
    """
    if Ranks.here().is_first:
        return _worked_first(work)
    _wait_for_first()
    return work()


def by_first(work: Callable[[], T]) -> T | None:
    """Work in the first process only, while the others wait as in ``after_first`` and get None."""
    if Ranks.here().is_first:
        return _worked_first(work)
    _wait_for_first()
    return None


class Pulse:
    """An observer that tells the waiting processes of every sign of progress."""

    name = "pulse"

    @observe
    def metrics_logged(self) -> None:
        """Count one sign."""
        if _joined is not None:
            _joined.store.add("pulse", 1)


@contextmanager
def lost_ranks_named() -> Iterator[None]:
    """Turn what gloo, NCCL and the store say of a process that is gone into a ``RankLost``."""
    try:
        yield
    except RuntimeError as error:  # torch's own errors of this kind are subclasses
        reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
        if not _is_of_a_lost_rank(error):
            raise
        ranks = Ranks.here()
        raise RankLost(
            f"rank {ranks.rank} of {ranks.world_size} lost another rank ({reason}): that one's message says "
            "why. Go on with --resume."
        ) from error


def _is_of_a_lost_rank(error: RuntimeError) -> bool:
    import torch.distributed as dist

    if not any(word in str(error) for word in _LOST):
        return False
    return isinstance(error, dist.DistError) or _SPEAKER.search(str(error)) is not None


def _worked_first(work: Callable[[], T]) -> T:
    if _joined is None:
        return work()
    _joined.turns += 1
    turn, done = f"turn-{_joined.turns}", b"failed"
    try:
        result = work()
        done = b"done"
    finally:
        _joined.store.set(turn, done)
    return result


def _wait_for_first() -> None:
    assert _joined is not None, "only joined processes can wait for each other"
    _joined.turns += 1
    turn = f"turn-{_joined.turns}"
    heard, quiet = 0, timedelta()
    with lost_ranks_named():
        while not _joined.store.check([turn]):
            time.sleep(_POLL.total_seconds())
            pulse = int(_joined.store.add("pulse", 0))
            quiet = timedelta() if pulse != heard else quiet + _POLL
            heard = pulse
            if quiet > PATIENCE:
                minutes = PATIENCE.total_seconds() / 60
                raise RankLost(f"rank 0 told of no progress for {minutes:.0f} minutes: it hangs, or is gone.")
        if _joined.store.get(turn) == b"failed":
            raise RankLost("rank 0 failed while the others waited for it: its message says why.")
