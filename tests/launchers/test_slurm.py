"""The script that a queue gets: what stands in it, what a shell makes of it, and who refuses it."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from openvla_toolkit.checkpoints.layout import STOPPED_FILE
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.recipe import Recipe
from openvla_toolkit.launchers import SlurmConfig
from openvla_toolkit.testing import check_launcher
from tests.assets import slurm_stand_in

WORDS = ["run", "a recipe.yaml", "policy.prompt='it''s $HOME'"]


def launch(folder: Path, *, words: list[str] = WORDS, **settings: Any) -> Path:
    """Launch and return the script."""
    recipe = Recipe.from_mapping({"output": str(folder), "observers": []})
    SlurmConfig(**settings).build().launch(words, recipe=recipe)
    return folder / "slurm" / "run.sh"


def options(script: Path) -> list[str]:
    lines = script.read_text().splitlines()
    return [line.removeprefix("#SBATCH --") for line in lines if line.startswith("#SBATCH")]


def test_it_keeps_to_the_interface() -> None:
    check_launcher(SlurmConfig(nodes=2, nproc=8))
    assert SlurmConfig(nodes=2, nproc=8).processes == 16


def test_the_script_asks_for_what_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = launch(
        tmp_path / "my run",
        submit=False,
        nodes=2,
        nproc=8,
        cpus=12,
        partition="long",
        account="lab",
        qos="high",
        time="2-00:00:00",
        notice=300,
        options={"constraint": "h100", "mem": 0, "--exclusive": None},
    )
    assert options(script) == [
        'job-name="openvla-my run"',
        f"chdir={tmp_path}",
        "nodes=2",
        "ntasks-per-node=8",
        "gpus-per-node=8",
        "cpus-per-task=12",
        "partition=long",
        "account=lab",
        "qos=high",
        "time=2-00:00:00",
        "signal=USR1@300",
        "requeue",
        "open-mode=append",
        f'output="{tmp_path}/my run/slurm/%j.log"',
        "constraint=h100",
        "mem=0",
        "exclusive",
    ]
    assert capsys.readouterr().out == f"written, not submitted: sbatch {script}\n"


def test_what_is_not_set_is_left_to_the_cluster(tmp_path: Path) -> None:
    names = [line.partition("=")[0] for line in options(launch(tmp_path, submit=False, gpus=False))]
    assert names == [
        "job-name",
        "chdir",
        "nodes",
        "ntasks-per-node",
        "signal",
        "requeue",
        "open-mode",
        "output",
    ]


def test_the_words_reach_every_task_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell runs the script; the tasks print what they were told."""
    python = tmp_path / "python of the cluster"
    python.write_text('#!/bin/sh\necho "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR"\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "traces").mkdir()
    monkeypatch.setenv("STAND_IN", str(tmp_path / "traces"))
    monkeypatch.setenv("PATH", str(slurm_stand_in.installed(tmp_path)), prepend=":")
    script = launch(
        tmp_path,
        submit=False,
        python=str(python),
        setup=["export GREETING=hello"],
        srun=["--container-image=our image"],
    )
    variables = {"JOB_ID": "12", "JOB_NODELIST": "a,b", "NTASKS": "1", "NTASKS_PER_NODE": "1"}
    given = " ".join(f"SLURM_{name}={value}" for name, value in variables.items())
    done = subprocess.run(
        ["bash", "-c", f"{given} bash {shlex.quote(str(script))}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    first, *rest = done.stdout.splitlines()
    assert first == "0 0 1 127.0.0.1"
    assert rest == ["-m", "openvla_toolkit", *WORDS, "--resume"]
    text = script.read_text()
    assert text.index("export GREETING=hello") < text.index("srun --kill-on-bad-exit=1 '--container-image=")


@pytest.mark.parametrize(
    ("noted", "code", "again"),
    [("SIGUSR1", 143, True), ("SIGUSR1", 137, True), (None, 138, False), ("SIGTERM", 143, False)],
)
def test_a_job_is_queued_again_where_the_run_noted_that_it_has_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: str | None, code: int, again: bool
) -> None:
    """Whatever srun makes of the exit codes, and whatever a run before noted."""
    traces, output = tmp_path / "traces", tmp_path / "our run"
    traces.mkdir()
    output.mkdir()
    (output / STOPPED_FILE).write_text("SIGUSR1\n")
    python = tmp_path / "python"
    note = "true" if noted is None else f'echo {noted} > "{output / STOPPED_FILE}"'
    python.write_text(f"#!/bin/sh\n{note}\nexit {code}\n")
    python.chmod(0o755)
    monkeypatch.setenv("STAND_IN", str(traces))
    monkeypatch.setenv("PATH", str(slurm_stand_in.installed(tmp_path)), prepend=":")
    variables = {"JOB_ID": slurm_stand_in.JOB, "JOB_NODELIST": "a", "NTASKS": "1", "NTASKS_PER_NODE": "1"}
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    script = launch(output, submit=False, python=str(python))
    assert subprocess.run(["bash", str(script)], check=False).returncode == code
    assert (traces / "again").exists() == again


def test_without_slurm_the_script_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no 'sbatch' on this machine.*The script is .*run\.sh: submit it"):
        launch(tmp_path / "run")
    assert sys.executable in (tmp_path / "run" / "slurm" / "run.sh").read_text()


def test_a_refusal_says_what_sbatch_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAND_IN", str(tmp_path))
    monkeypatch.setenv("PATH", str(slurm_stand_in.installed(tmp_path)), prepend=":")
    with pytest.raises(
        UserError, match=r"sbatch refuses .*run\.sh \(exit code 1\): .*partition specified: closed"
    ):
        launch(tmp_path / "run", partition="closed")


def test_a_folder_with_a_run_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step-000004").mkdir(parents=True)
    with pytest.raises(UserError, match="holds a run already: give --resume"):
        launch(tmp_path, submit=False)
    assert "--resume --resume" not in launch(tmp_path, words=[*WORDS, "--resume"], submit=False).read_text()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"options": {"nodes": 4}}, "'nodes' is written by the launcher"),
        ({"options": {"comment": "a\n#SBATCH --nodes=9"}}, "a line break cannot stand here"),
        ({"setup": ["module load a\nmodule load b"]}, "give one entry for each line"),
        ({"account": "a\nb"}, "a line break"),
    ],
)
def test_what_would_break_the_script_is_refused(settings: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        SlurmConfig(**settings)
