"""Workers that die in the middle of the stream: the run hears of it, whatever they were doing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count, islice
from multiprocessing import active_children, forkserver
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from openvla_toolkit.core.data_sections import Loader
from openvla_toolkit.core.errors import TrainingError
from openvla_toolkit.core.types import ConversationSample, Sample, Turn
from openvla_toolkit.pipeline.loader import Batch, batches
from openvla_toolkit.pipeline.sampler import MixtureSampler, Source

BYTES = 50_000
"""Of a sample: two of them are more than a pipe holds, and less than what is shared."""


class Words:
    """A source of samples that cost nothing."""

    def __init__(self, *, fail_at: int | None = None) -> None:
        self._fail_at = fail_at

    def __len__(self) -> int:
        return 100

    def sample(self, position: int, *, number: int) -> ConversationSample:
        if number == self._fail_at:
            raise ValueError("the stranger's transform has a fault")
        return ConversationSample(images={}, turns=(Turn("human", str(number)),), dataset="words")


class Padded:
    """A processor of small batches."""

    def encode(self, sample: Sample | ConversationSample) -> dict[str, Any]:
        assert isinstance(sample, ConversationSample)
        return {"padding": np.zeros(BYTES, np.uint8), "number": int(sample.turns[0].text)}

    def encode_observation(self, observation: Any) -> dict[str, Any]:
        raise AssertionError("nobody acts here")

    def collate(self, items: Sequence[Any], *, side: str = "right") -> dict[str, Any]:
        return {key: np.stack([item[key] for item in items]) for key in items[0]}


def stream(source: Words, *, workers: int = 2) -> Any:
    numbers = ([2 * step, 2 * step + 1] for step in count())
    sampler = MixtureSampler([Source(len(source), 1.0)], seed=5)
    return batches([source], sampler, Padded(), numbers, loader=Loader(workers=workers))


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail what takes longer, in whatever it hangs."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"nothing happened within {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def loaders() -> list[Any]:
    return sorted((one for one in active_children() if one.name.startswith("loader-")), key=str)


@pytest.mark.parametrize(
    ("taken", "pause"), [(1, 0.0), (2, 0.3), (7, 0.0), (12, 0.001), (25, 0.02), (26, 0.3)]
)
def test_a_worker_killed_in_mid_stream_ends_the_run(taken: int, pause: float) -> None:
    with within(20), closing(stream(Words())) as found:
        for _ in range(taken):
            next(found)
        time.sleep(pause)  # with time, both workers stand in the middle of a batch
        victim = loaders()[taken % 2]
        os.kill(victim.pid, signal.SIGKILL)
        died = time.monotonic()
        with pytest.raises(
            TrainingError, match=rf"worker \(pid {victim.pid}\) was killed by SIGKILL\. .*lower train\.loader"
        ):
            list(islice(found, 20))
    assert time.monotonic() - died < 10
    assert loaders() == []


def test_what_a_worker_sent_whole_before_it_died_arrives() -> None:
    with within(20), closing(stream(Words(), workers=1)) as found:
        assert next(found)["number"].tolist() == [0, 1]
        (worker,) = loaders()
        os.kill(worker.pid, signal.SIGKILL)
        numbers: list[int] = []
        with pytest.raises(TrainingError):
            numbers.extend(number for batch in found for number in batch["number"].tolist())
    assert numbers == list(range(2, 2 + len(numbers)))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_beside_a_dead_worker_is_heard(number: signal.Signals) -> None:
    """Handlers that only take note, as a run's do, find a run that goes on to its end."""
    heard: list[int] = []
    before = signal.signal(number, lambda one, _: heard.append(one))
    try:
        with within(20), closing(stream(Words())) as found:
            for _ in range(4):
                next(found)
            time.sleep(0.3)
            for process in loaders():
                os.kill(process.pid, number)  # Ctrl-C and schedulers signal all
            os.kill(loaders()[0].pid, signal.SIGKILL)
            os.kill(os.getpid(), number)
            with pytest.raises(TrainingError, match="was killed by SIGKILL"):
                list(islice(found, 20))
    finally:
        signal.signal(number, before)
    assert heard == [number]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_workers_and_their_server_outlast_what_is_sent_to_all(number: signal.Signals) -> None:
    """Schedulers send it to every process, and who gets it may pass it on: the run goes on to its save."""
    with within(20), closing(stream(Words())) as found:
        next(found)
        for _ in range(3):
            for process in loaders():
                os.kill(process.pid, number)
            os.kill(forkserver._forkserver._forkserver_pid, number)  # type: ignore[attr-defined]
            time.sleep(0.05)
        numbers = [one for batch in islice(found, 20) for one in batch["number"].tolist()]
    assert numbers == list(range(2, 42))
    assert loaders() == []


def test_what_is_raised_in_a_worker_is_told_with_its_place() -> None:
    with (
        within(20),
        closing(stream(Words(fail_at=6))) as found,
        pytest.raises(RuntimeError, match=r"in a worker(?s:.*)in sample(?s:.*)ValueError: the stranger's"),
    ):
        list(islice(found, 4))
    assert loaders() == []


LEFT_OPEN = """
import os, sys
sys.path.insert(0, {here!r})
from test_loader_deaths import Words, stream

if __name__ == "__main__":
    found = stream(Words())
    print(len(next(found)["number"]), flush=True)
    {end}
"""


@pytest.mark.parametrize("end", ["", "os._exit(0)"])
def test_a_process_that_ends_takes_its_workers_along_and_leaks_nothing(tmp_path: Path, end: str) -> None:
    script = tmp_path / "script.py"
    script.write_text(LEFT_OPEN.format(here=str(Path(__file__).parent), end=end))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_the_stream_is_whole() -> None:
    with closing(stream(Words())) as found:
        first: list[Batch] = [next(found) for _ in range(9)]
    assert [batch["number"].tolist() for batch in first] == [[2 * k, 2 * k + 1] for k in range(9)]
