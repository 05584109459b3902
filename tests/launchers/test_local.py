"""Processes on this machine: what they are told, and how they end together. No process here imports torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.launchers import LocalConfig
from openvla_toolkit.launchers.watched import cause_of

ACTING = '''
import os, signal, sys, time
from pathlib import Path
import click
from openvla_toolkit.core.errors import RankLost, RunInterrupted, StorageError, TrainingError, UserError
from openvla_toolkit.core.worker import end_with_the_launcher

RANK = int(os.environ["RANK"])

@click.command()
@click.argument("folder")
@click.argument("parts", nargs=-1)
def act(folder, parts):
    """Play one part per rank; the last one is everybody else's."""
    end_with_the_launcher()
    (Path(folder) / f"{RANK}").write_text(str(os.getpid()))
    part = parts[min(RANK, len(parts) - 1)]
    if part == "tell":
        names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "OMP_NUM_THREADS")
        print(*(os.environ[name] for name in names))
    if part == "fail":
        raise TrainingError("the loss is nan.")
    if part == "mistake":
        raise UserError("train.batch is odd.")
    if part == "lost":
        raise RankLost("rank 1 lost another rank.")
    if part == "bug":
        print("about to crash")
        1 / 0
    if part == "quit":
        print("no more of this")
        os._exit(7)
    if part == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if part == "stuck":
        (Path(folder) / f"{RANK}-ready").touch()
        os.kill(os.getpid(), signal.SIGSTOP)
    if part == "full":
        raise StorageError("no space left while writing step-000004.")
    if part in ("wait", "obey", "slow", "deaf"):
        def stop(number, frame):
            time.sleep(part == "slow")
            raise RunInterrupted("stopped and saved.", number=number)
        if part in ("obey", "slow"):
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
                signal.signal(number, stop)
        if part == "deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        (Path(folder) / f"{RANK}-ready").touch()
        time.sleep(60)
'''


@pytest.fixture
def acting(install: Any, tmp_path: Path) -> Path:
    """A verb whose ranks do what they are told to; the folder where they leave their process ids."""
    install("openvla-acting", {}, modules={"acting": ACTING})
    info = tmp_path / "site" / "openvla-acting" / "openvla_acting-1.2.3.dist-info" / "entry_points.txt"
    info.write_text("[openvla_toolkit.command]\nact = acting:act\n")
    folder = tmp_path / "ranks"
    folder.mkdir()
    return folder


LAUNCH = """
import sys
from openvla_toolkit.core.errors import OpenVLAError
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.launchers import LocalConfig
recipe = Recipe.from_mapping({"output": "none", "observers": []})
try:
    LocalConfig(nproc=int(sys.argv[1]), grace=sys.argv[2]).build().launch(sys.argv[3:], recipe=recipe)
except OpenVLAError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def launched(nproc: int, *words: str, grace: float = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", LAUNCH, str(nproc), str(grace), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(nproc: int, folder: Path, *parts: str) -> tuple[int, str, str]:
    process = launched(nproc, "act", str(folder), *parts)
    said = process.communicate(timeout=60)
    assert not alive(folder)
    return process.returncode, *said


def alive(folder: Path) -> list[int]:
    """Return those of the ranks' processes that still run."""
    pids = [int(path.read_text()) for path in folder.glob("[0-9]")]
    return [pid for pid in pids if Path(f"/proc/{pid}").exists() and not is_zombie(pid)]


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def waiting(number: signal.Signals) -> str:
    return f"{number.name}: waiting for the ranks to save and to end; again to end without saving.\n"


def until(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, f"{what} took more than a minute"
        time.sleep(0.02)


def test_every_rank_is_told_who_it_is(acting: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    code, out, err = ended(2, acting, "tell")
    threads = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert code == 0
    assert out.split() == ["0", "0", "2", "2", "127.0.0.1", threads]
    assert err.split("] ")[1].split() == ["1", "1", "2", "2", "127.0.0.1", threads]


@pytest.mark.parametrize(
    ("parts", "code", "message"),
    [
        (["wait", "fail"], 1, "rank 1 of 2 ended with exit code 1: the loss is nan. The other ranks were"),
        (["lost", "die"], 1, "rank 1 of 2 was killed by SIGKILL; the system kills so where memory runs out"),
        (["deaf", "die"], 1, "rank 1 of 2 was killed by SIGKILL"),
        (["wait", "quit"], 7, "rank 1 of 2 ended with exit code 7: no more of this. The other ranks"),
        (["mistake", "mistake"], 2, "\ntrain.batch is odd.\n"),
        (["wait", "bug"], 1, "internal error: ZeroDivisionError: division by zero; run again with --debug"),
        (["wait", "full"], 1, "no space left while writing step-000004. The other ranks were stopped. Go on"),
        (["tell", "obey", "fail"], 1, "rank 2 of 3 ended with exit code 1: the loss is nan"),
    ],
)
def test_the_rank_that_failed_is_named_and_the_others_end(
    acting: Path, parts: list[str], code: int, message: str
) -> None:
    status, _, err = ended(len(parts), acting, *parts)
    assert status == code
    assert message in f"\n{err}"
    assert err.count("Go on with --resume.") == ("die" in parts or "full" in parts)


class Ended:
    """A process as the launcher saw it end."""

    world_size = 2

    def __init__(self, rank: int, code: int, message: str | None = None, *, lost: bool = False) -> None:
        self.rank, self.code, self.message, self.is_consequence = rank, code, message, lost
        self.can_go_on = code < 0

    def describe(self) -> str:
        return f"ended with {self.code}: {self.message}"


@pytest.mark.parametrize(
    ("first", "second", "blamed"),
    [
        (Ended(0, 1, "internal error: Connection closed"), Ended(1, -9), 1),
        (Ended(0, -6), Ended(1, 1, "a frame is spoiled."), 1),
        (Ended(0, 1), Ended(1, 1, "a frame is spoiled."), 1),
        (Ended(0, 1, "lost another rank.", lost=True), Ended(1, 1), 1),
        (Ended(0, 1, "a frame is spoiled."), Ended(1, 1, "a frame is spoiled."), 0),
        (Ended(0, 130), Ended(1, 130), 0),
    ],
)
def test_who_is_to_blame(first: Any, second: Any, blamed: int) -> None:
    """Whoever was killed, or has words of its own; whichever number it has."""
    error = str(cause_of([first, second]))
    assert error.startswith(f"rank {blamed} of 2 ended with ")
    assert error.count("--resume") == ([first, second][blamed].code < 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_is_passed_on_and_its_code_returned(acting: Path, number: signal.Signals) -> None:
    process = launched(2, "act", str(acting), "obey")
    until(lambda: len(list(acting.glob("*-ready"))) == 2, "starting")
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert err == f"{waiting(number)}stopped and saved.\n"
    assert not alive(acting)


def test_a_rank_that_does_not_stop_with_the_others_is_killed(acting: Path) -> None:
    process = launched(2, "act", str(acting), "obey", "deaf")
    until(lambda: len(list(acting.glob("*-ready"))) == 2, "starting")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, f"{waiting(signal.SIGTERM)}stopped and saved.\n")
    assert not alive(acting)


def test_a_signal_before_the_ranks_can_hear_it_ends_them(acting: Path) -> None:
    process = launched(2, "act", str(acting), "wait")
    until(lambda: len(list(acting.glob("*-ready"))) == 2, "starting")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    assert err == (
        f"{waiting(signal.SIGTERM)}stopped by SIGTERM, and nothing more was saved. There is no checkpoint "
        "yet: --resume begins anew.\n"
    )


@pytest.mark.parametrize("others", ["stuck", "deaf"])
def test_ranks_that_hang_are_killed_some_time_after_a_second_signal(acting: Path, others: str) -> None:
    """A stopped one; and one that waits for it where no handler of Python's is ever run."""
    process = launched(2, "act", str(acting), "deaf", others)
    until(lambda: len(list(acting.glob("*-ready"))) == 2, "starting")
    process.send_signal(signal.SIGTERM)
    until(lambda: process.stderr.readline() == waiting(signal.SIGTERM), "hearing")
    process.send_signal(signal.SIGUSR1)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 143
    assert "SIGUSR1 again: what still runs (rank 0, 1) is killed in 1 seconds; again to end" in err
    assert "stopped by SIGTERM, and nothing more was saved: rank 0 of 2, rank 1 of 2 had to be killed." in err
    assert not alive(acting)


def test_the_third_signal_kills_at_once(acting: Path) -> None:
    process = launched(2, "act", str(acting), "deaf", "stuck", grace=1000)
    until(lambda: len(list(acting.glob("*-ready"))) == 2, "starting")
    spoken = {
        "waiting for": signal.SIGTERM,
        "killed in 1000 seconds": signal.SIGINT,
        "killed now": signal.SIGINT,
    }
    for said, number in spoken.items():
        process.send_signal(number)
        until(lambda said=said: said in process.stderr.readline(), "hearing")
    process.communicate(timeout=30)
    assert process.returncode == 143
    assert not alive(acting)


def test_the_same_signal_passed_on_besides_is_the_same_wish(acting: Path) -> None:
    process = launched(2, "act", str(acting), "slow", grace=0.1)
    until(lambda: len(list(acting.glob("*-ready"))) == 2, "starting")
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, f"{waiting(signal.SIGTERM)}stopped and saved.\n")


def test_the_first_rank_is_given_the_time_to_finish(acting: Path) -> None:
    """It alone closes trackers and writes the report, after the others are gone."""
    process = launched(2, "act", str(acting), "slow", "obey", grace=0.1)
    until(lambda: len(list(acting.glob("*-ready"))) == 2, "starting")
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (143, f"{waiting(signal.SIGTERM)}stopped and saved.\n")


def test_ranks_are_given_all_the_time_that_a_save_takes(acting: Path) -> None:
    """The seconds of ``grace`` count from the second signal, or from the end of another rank."""
    process = launched(2, "act", str(acting), "deaf", grace=0.1)
    until(lambda: len(list(acting.glob("*-ready"))) == 2, "starting")
    process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=1.5)
    assert len(alive(acting)) == 2
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)


def test_ranks_end_with_a_launcher_that_was_killed(acting: Path) -> None:
    process = launched(2, "act", str(acting), "wait")
    until(lambda: len(list(acting.glob("*-ready"))) == 2, "starting")
    process.kill()
    process.communicate(timeout=60)
    until(lambda: not alive(acting), "ending")


def test_signal_handlers_are_what_they_were(acting: Path) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    recipe = Recipe.from_mapping({"output": "none", "observers": []})
    LocalConfig(nproc=1).build().launch(["act", str(acting), "nothing"], recipe=recipe)
    assert signal.getsignal(signal.SIGUSR1) == before
