"""A job that is told before its time is over saves, queues itself again, and ends with the curve of one run.

SLURM is a stand-in (``tests/assets/slurm_stand_in.py``); the script, the shell and the training are real.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.checkpoints.layout import STOPPED_FILE, checkpoints_of
from openvla_toolkit.stages.run_recipe import run
from tests.assets import slurm_stand_in

TOLD = '''
import os
import time
from typing import Literal
from openvla_toolkit.core.hooks import observe
from openvla_toolkit.interfaces.observer import ObserverConfig

class ToldConfig(ObserverConfig):
    """Has srun pass on what SLURM sends, when a step was logged; takes its time at the end."""
    name: Literal["told"] = "told"
    step: int
    number: int
    lingers: float = 0

    def build(self):
        return Told(self)

class Told:
    def __init__(self, config):
        self._config = config

    @observe
    def metrics_logged(self, stage, step):
        if (stage, step) == ("train", self._config.step):
            os.kill(os.getppid(), self._config.number)

    @observe
    def run_finished(self, error):
        time.sleep(self._config.lingers * (error is not None))
'''


@pytest.fixture
def submitted(make_recipe: Any, install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Submit a run of two tasks; return what was said, the exit codes of the job and its log."""
    install("openvla-told", {"observer": {"told": "told:ToldConfig"}}, modules={"told": TOLD})
    traces = tmp_path / "traces"
    traces.mkdir()
    monkeypatch.setenv("STAND_IN", str(traces))
    monkeypatch.setenv("PATH", str(slurm_stand_in.installed(tmp_path)), prepend=":")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def start(output: str, **told: int) -> tuple[str, list[int], str]:
        launcher = {"name": "slurm", "nproc": 2, "gpus": False}
        observers = ["jsonl", *([{"name": "told", **told}] if told else [])]
        train = {"engine": {"name": "fsdp", "device": "cpu"}}
        file = tmp_path / f"{output}.yaml"
        recipe = make_recipe(output, train=train, launcher=launcher, observers=observers)
        file.write_text(recipe.to_yaml())
        command = [sys.executable, "-m", "openvla_toolkit", "run", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        deadline = time.monotonic() + 120
        while not (traces / "ended").exists():
            assert time.monotonic() < deadline, f"the job of {output} does not end"
            time.sleep(0.05)
        codes = [int(code) for code in (traces / "ended").read_text().split()]
        log = tmp_path / output / "slurm" / f"{slurm_stand_in.JOB}.log"
        return done.stdout, codes, log.read_text()

    return start


def test_a_job_goes_on_after_its_time(
    submitted: Any, make_recipe: Any, read_curve: Any, tmp_path: Path
) -> None:
    """Also where the first process is not done with its observers when srun sends it SIGTERM."""
    said, codes, log = submitted("queued", step=4, number=int(signal.SIGUSR1), lingers=3)
    assert codes == [128 + signal.SIGUSR1, 0], log
    assert log.count("stopped by SIGUSR1 after step") == 2
    assert not (tmp_path / "queued" / STOPPED_FILE).exists()
    assert f"submitted as job {slurm_stand_in.JOB}: {tmp_path}/queued/slurm/run.sh" in said
    run(make_recipe("alone"))
    queued, alone = read_curve(tmp_path / "queued"), read_curve(tmp_path / "alone")
    assert list(queued) == list(alone)
    for step, line in alone.items():
        assert queued[step] == pytest.approx(line, rel=1e-4)
    assert len(checkpoints_of(tmp_path / "queued")) == 2


def test_a_job_that_was_cancelled_stays_so(submitted: Any, tmp_path: Path) -> None:
    """SIGTERM is what ``scancel`` sends, and what SLURM sends before it queues a job again by itself."""
    _, codes, log = submitted("cancelled", step=4, number=int(signal.SIGTERM))
    assert codes == [128 + signal.SIGTERM], log
    assert checkpoints_of(tmp_path / "cancelled")
    assert (tmp_path / "cancelled" / STOPPED_FILE).read_text() == "SIGTERM\n"
