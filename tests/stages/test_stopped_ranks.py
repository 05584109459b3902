"""Two ranks that are stopped, or of which one fails: the state is saved, and the right one is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.checkpoints.layout import STOPPED_FILE, checkpoints_of
from openvla_toolkit.core.errors import RankLost
from openvla_toolkit.core.processes import lost_ranks_named

TROUBLED = '''
import os, signal, time
from pathlib import Path
from typing import Literal
import torch
from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.ranks import Ranks
from openvla_toolkit.testing.fakes.linear import LinearPolicyConfig

class TroubledConfig(LinearPolicyConfig):
    """Is slow to save, draws in its loss as dropout does, or fails in one rank."""
    name: Literal["troubled"] = "troubled"
    trouble: Literal["none", "slow", "draws", "killed", "data", "timeout"]

    def build(self, *, robot=None, statistics=None):
        policy, rank = super().build(robot=robot, statistics=statistics), Ranks.here().rank
        if self.trouble == "killed" and rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        loss, save = policy.loss, policy.save

        def troubled(module, batch):
            if self.trouble == "draws":
                with (Path(os.environ["DRAWN"]) / str(rank)).open("a") as drawn:
                    drawn.write(f"{torch.rand(())}\\n")
            if self.trouble == "data" and rank == 1 and not module.training:
                raise DataError("a frame is spoiled.", file="shard-7")
            if self.trouble == "timeout" and rank == 0:
                raise RuntimeError("the camera timed out")
            return loss(module, batch)

        def slowly(folder, **options):
            (folder.parent / "begun").touch()
            time.sleep(2 * (self.trouble == "slow"))
            save(folder, **options)

        policy.loss, policy.save = troubled, slowly
        return policy
'''


@pytest.fixture
def start(make_recipe: Any, install: Any, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start two ranks with a trouble; the test's end kills their launcher, and with it them."""
    target = {"policy": {"troubled": "troubled:TroubledConfig"}}
    install("openvla-troubled", target, modules={"troubled": TROUBLED})
    started: list[subprocess.Popen[str]] = []

    def begin(trouble: str, *words: str, by: tuple[str, ...] = (), **settings: Any) -> subprocess.Popen[str]:
        train = {"engine": {"name": "ddp", "device": "cpu"}, "self_check": "off", **settings}
        recipe = make_recipe(
            policy={"name": "troubled", "trouble": trouble},
            train=train,
            launcher={"name": "local", "nproc": 2, "grace": 0.5},
        )
        file = tmp_path / "recipe.yaml"
        file.write_text(recipe.to_yaml())
        command = [sys.executable, *by, "-m", "openvla_toolkit", "run", str(file), *words]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ranks_of(launcher: subprocess.Popen[str]) -> list[int]:
    return [
        int(pid) for pid in Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    ]


def test_a_signal_that_comes_to_ranks_and_launcher_cuts_no_save_short(start: Any, tmp_path: Path) -> None:
    """As systemd sends it to a control group; saving takes longer than one rank is given after another."""
    process = start("slow", steps=10**7)
    metrics = tmp_path / "run" / "metrics.jsonl"
    until(lambda: metrics.exists() and '"train"' in metrics.read_text(), process)
    for rank in ranks_of(process):
        os.kill(rank, signal.SIGTERM)
    until((tmp_path / "run" / "checkpoints" / "begun").exists, process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    (saved,) = checkpoints_of(tmp_path / "run")
    assert process.returncode == 143
    assert f"the state is saved in {saved}. Go on with --resume." in said
    assert said.count("--resume") == 1
    assert (tmp_path / "run" / STOPPED_FILE).read_text() == "SIGTERM\n"


def test_ctrl_c_that_torchrun_passes_on_besides_cuts_no_save_short(start: Any, tmp_path: Path) -> None:
    """Where the ranks are in the terminal's group, they hear it from there and from torchrun."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    process = start("slow", by=torchrun, steps=10**7)
    metrics = tmp_path / "run" / "metrics.jsonl"
    until(lambda: metrics.exists() and '"train"' in metrics.read_text(), process)
    for rank in ranks_of(process):
        os.kill(rank, signal.SIGINT)
    until((tmp_path / "run" / "checkpoints" / "begun").exists, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    (saved,) = checkpoints_of(tmp_path / "run")
    assert f"[rank 0] error: stopped by SIGINT after step {int(saved.name.removeprefix('step-'))} of" in said


def test_a_rank_that_hangs_is_killed_when_asked_again(start: Any, tmp_path: Path) -> None:
    process = start("none", steps=10**7, save_every=5, keep=9)
    until(lambda: checkpoints_of(tmp_path / "run"), process)
    ranks = ranks_of(process)
    os.kill(ranks[1], signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    newest = checkpoints_of(tmp_path / "run")[-1]
    assert process.returncode == 128 + signal.SIGTERM
    assert "SIGTERM: waiting for the ranks to save and to end; again to end without saving.\n" in said
    assert "SIGINT again: what still runs (rank 0, 1) is killed in 0.5 seconds; again to end" in said
    assert "nothing more was saved: rank 0 of 2, rank 1 of 2 had to be killed." in said
    assert f"The newest whole checkpoint is {newest}. Go on with --resume.\n" in said
    assert not any(Path(f"/proc/{rank}").exists() for rank in ranks)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("DRAWN", str(tmp_path / "drawn"))
    (tmp_path / "drawn").mkdir()
    return tmp_path / "drawn"


def test_every_rank_has_a_dropout_of_its_own(start: Any, drawn: Path) -> None:
    process = start("draws", "--nproc", "3", steps=3, batch={"total": 6, "per_device": 2})
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    numbers = [(drawn / rank).read_text().split() for rank in ("0", "1", "2")]
    assert [len(own) for own in numbers] == [3, 3, 3]
    assert len(set().union(*numbers)) == 9


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        ("data", "rank 1 of 2 ended with exit code 1: shard-7: a frame is spoiled. The other ranks were"),
        ("killed", "rank 1 of 2 was killed by SIGKILL; the system kills so where memory runs out"),
        ("timeout", "rank 0 of 2 ended with exit code 1: internal error: RuntimeError: the camera timed out"),
    ],
)
def test_the_rank_that_failed_is_named_and_not_the_one_that_lost_it(
    start: Any, trouble: str, said: str
) -> None:
    """In validation, before the engine has the policy, and where the first one's own error sounds like it."""
    validation = {"every": 2, "samples": 8, "data": [{"name": "dots-episodes", "seed": 5}]}
    process = start(trouble, steps=4, validation=validation, engine={"name": "fsdp", "device": "cpu"})
    _, line = process.communicate(timeout=60)
    assert process.returncode == 1
    last = line.splitlines()[-1]
    assert said in last
    assert last.count("--resume") == (trouble == "killed")


@pytest.mark.parametrize(
    "said", ["DataLoader timed out after 5 seconds", "Connection closed by the robot", "no NCCL here"]
)
def test_an_error_that_merely_sounds_like_a_lost_rank_stays_what_it_is(said: str) -> None:
    with pytest.raises(RuntimeError, match=said), lost_ranks_named():
        raise RuntimeError(said)


@pytest.mark.parametrize(
    "said",
    [
        "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [::1]:4",
        "Timed out waiting 1800000ms for recv operation to complete",
    ],
)
def test_what_gloo_says_of_a_lost_rank_is_known(said: str) -> None:
    with pytest.raises(RankLost, match="rank 0 of 1 lost another rank"), lost_ranks_named():
        raise RuntimeError(said)
