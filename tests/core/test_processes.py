"""What the processes of a run tell each other: alone, joined alone, and waiting for the first one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import torch

from openvla_toolkit.core import processes
from openvla_toolkit.core.errors import RankLost
from openvla_toolkit.core.hooks import Observers
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.core.step_totals import StepTotals
from openvla_toolkit.interfaces.action_head import LossReport


@pytest.fixture
def joined() -> Iterator[None]:
    """One process that has joined, as under ``torchrun --nproc-per-node 1``."""
    processes.leave()
    processes.join(Ranks(), device="cpu")
    yield
    processes.leave()


def say_everything() -> list[Any]:
    return [
        processes.gathered({"a": 1}),
        processes.agreed(None),
        processes.agreed(15),
        processes.from_first("last"),
        processes.told_while_saving("folder"),
        processes.after_first(lambda: 3),
        processes.by_first(lambda: 4),
    ]


def test_alone_and_joined_alone_the_answers_are_ones_own(joined: None) -> None:
    assert processes.are_joined()
    together = say_everything()
    processes.leave()
    assert not processes.are_joined()
    assert not torch.distributed.is_initialized()
    assert together == say_everything() == [[{"a": 1}], None, 15, "last", "folder", 3, 4]


@pytest.fixture
def second(joined: None, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The place of the second process, and the store in which the first one writes."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "_POLL", timedelta(milliseconds=20))
    monkeypatch.setattr(processes, "PATIENCE", timedelta(milliseconds=200))
    assert processes._joined is not None
    return processes._joined.store


def test_the_others_wait_as_long_as_the_first_makes_progress(second: Any) -> None:
    pulse, order = Observers([processes.Pulse()]), []
    done = threading.Event()

    def first() -> None:
        for _ in range(30):
            pulse.tell.metrics_logged(stage="prepare", step=1, values={})
            done.wait(0.03)
        order.append("first")
        second.set("turn-1", b"done")

    working = threading.Thread(target=first)
    working.start()
    assert processes.after_first(lambda: order.append("second")) is None
    working.join()
    assert order == ["first", "second"]


def test_a_first_process_without_progress_is_given_up(second: Any) -> None:
    with pytest.raises(RankLost, match="rank 0 told of no progress for"):
        processes.after_first(lambda: None)


def test_a_first_process_that_failed_is_not_waited_for(second: Any) -> None:
    second.set("turn-1", b"failed")
    with pytest.raises(RankLost, match="rank 0 failed while the others waited for it"):
        processes.by_first(lambda: None)


def test_the_first_process_says_that_it_failed(joined: None) -> None:
    def fail() -> None:
        raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        processes.after_first(fail)
    assert processes._joined is not None
    assert processes._joined.store.get("turn-1") == b"failed"


@pytest.mark.parametrize("said", ["Connection closed by peer [127.0.0.1]:2", "NCCL communicator was aborted"])
def test_what_torch_says_of_a_lost_process_is_put_plainly(said: str) -> None:
    with pytest.raises(RankLost, match=r"rank 0 of 1 lost another rank .* Go on with --resume"):
        with processes.lost_ranks_named():
            raise RuntimeError(said)


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="shapes differ"), processes.lost_ranks_named():
        raise RuntimeError("shapes differ")


def test_totals_are_sums_over_micro_batches() -> None:
    totals = StepTotals()
    for loss, count, share in ((6.0, 2, (1.0, 2.0)), (3.0, 1, (0.0, 0.0))):
        metrics = {"share": tuple(map(torch.tensor, share)), "nothing": (torch.tensor(0), torch.tensor(0))}
        report: Any = LossReport(total=torch.tensor(loss), count=torch.tensor(count), metrics=metrics)  # type: ignore[arg-type]
        totals.add(report)
    totals.close()
    assert (totals.count, totals.loss, totals.metrics) == (3.0, 3.0, {"share": 0.5})


def test_totals_of_nothing_have_no_count() -> None:
    totals = StepTotals()
    totals.close()
    assert totals.count == 0
