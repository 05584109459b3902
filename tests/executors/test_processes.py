"""Work in processes: what dies is named, what is stopped ends, and little work stays where it is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from openvla_toolkit.core.errors import MissingDependency, OpenVLAError
from openvla_toolkit.executors import ProcessesConfig

TWO = ProcessesConfig(workers=2).build()

RUN = """
import sys, time
from functools import partial
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_processes import TWO, sleep_long, nothing
if __name__ == "__main__":
    print("begun", flush=True)
    list(TWO.map(partial(sleep_long, Path({folder!r})), range(2), setup=nothing))
"""


def nothing() -> None:
    """Set nothing up."""


def identity(state: object, piece: int) -> int:
    return os.getpid()


def die(state: object, piece: int) -> int:
    if piece == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(piece)
    return piece


def leave(state: object, piece: int) -> None:
    sys.exit(7)


def lacks(state: object, piece: int) -> None:
    raise MissingDependency("reading this", "moonlight", install="moonlight")


def odd(state: object, piece: int) -> None:
    error = RuntimeError("odd")
    error.args = (lambda: None,)
    raise error


def sleep_long(folder: Path, state: object, piece: int) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(60)


@pytest.mark.parametrize(("workers", "pieces"), [(1, 3), (2, 1)])
def test_little_work_is_done_in_the_run_itself(workers: int, pieces: int) -> None:
    done = dict(ProcessesConfig(workers=workers).build().map(identity, range(pieces), setup=nothing))
    assert done == dict.fromkeys(range(pieces), os.getpid())


def test_more_is_done_elsewhere() -> None:
    done = dict(TWO.map(identity, range(4), setup=nothing))
    assert len(done) == 4
    assert os.getpid() not in done.values()


@pytest.mark.parametrize(("work", "how"), [(die, "killed by SIGKILL"), (leave, "exit code 7")])
def test_a_worker_that_dies_is_named_with_the_remedy(work: object, how: str) -> None:
    with pytest.raises(
        OpenVLAError, match=rf"process pieces-\d died \({how}\) at piece \d of 2; .*fewer workers"
    ):
        list(TWO.map(work, range(2), setup=nothing))  # type: ignore[arg-type]


def test_an_error_arrives_whole_and_with_its_place_in_the_worker() -> None:
    with pytest.raises(MissingDependency, match="pip install 'moonlight'") as caught:
        list(TWO.map(lacks, range(2), setup=nothing))
    assert caught.value.package == "moonlight"
    assert "in lacks" in str(caught.value.__cause__)


def test_an_error_that_cannot_travel_is_told_in_words() -> None:
    with pytest.raises(OpenVLAError, match="RuntimeError: "):
        list(TWO.map(odd, range(2), setup=nothing))


def test_work_that_is_given_up_ends_at_once(tmp_path: Path) -> None:
    with closing(TWO.map(partial(first_only, tmp_path), range(2), setup=nothing)) as results:
        assert next(results) == (0, 0)
    assert_gone(tmp_path)


def first_only(folder: Path, state: object, piece: int) -> int:
    (folder / str(os.getpid())).touch()
    time.sleep(60 * piece)
    return piece


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_run(number: signal.Signals, tmp_path: Path) -> None:
    code = RUN.format(tests=str(Path(__file__).parent), folder=str(tmp_path))
    script = tmp_path / "run.py"
    script.write_text(code)
    run = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for(lambda: len(list(tmp_path.glob("[0-9]*"))) == 2)
    run.send_signal(number)
    _, said = run.communicate(timeout=20)
    assert_gone(tmp_path)
    assert said.count(b"Traceback") == (number == signal.SIGINT), said


def wait_for(holds: object, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < end, "it did not come about."
        time.sleep(0.05)


def assert_gone(folder: Path) -> None:
    """Fail unless the processes whose numbers stand in a folder have ended."""
    numbers = [int(path.name) for path in folder.glob("[0-9]*")]
    assert numbers
    wait_for(lambda: not any(Path(f"/proc/{number}").exists() for number in numbers))
