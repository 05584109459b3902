"""A job of SLURM: told before its time is over it saves, and queues itself again until the run is done."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openvla_toolkit.checkpoints.layout import STOPPED_FILE, checkpoints_of
from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.storage import storage_errors

if TYPE_CHECKING:
    from openvla_toolkit.core.recipe import Recipe
    from openvla_toolkit.launchers import SlurmConfig

__all__ = ["FOLDER", "SlurmLauncher"]

FOLDER = "slurm"
"""Where script and logs lie, in the output folder."""

_BODY = """\
# All processes meet on the first machine.
MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export MASTER_ADDR MASTER_PORT
[ -z "${{SLURM_CPUS_PER_TASK:-}}" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"

# Each task is one process of the run; when one fails, the others are ended.
stopped_by={stopped_by}
rm -f "$stopped_by"
code=0
srun --kill-on-bad-exit=1 {srun}bash -c '
  export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID
  export WORLD_SIZE=$SLURM_NTASKS LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE
  exec "$@"' task {command} || code=$?

# So says a run that was told in time and has saved: it goes on from there. The exit code does not tell, for
# srun ends all tasks with the first, and takes the highest.
if [ "$(cat "$stopped_by" 2>/dev/null)" = {signal} ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


class SlurmLauncher:
    """Writes ``slurm/run.sh`` into the output folder and hands it to ``sbatch``."""

    def __init__(self, config: SlurmConfig) -> None:
        self._config = config

    def launch(self, words: Sequence[str], *, recipe: Recipe) -> None:
        """Write the script, submit it and say which job it is.

        Raises:
            UserError: the output folder holds a run and ``--resume`` was not given; there is no ``sbatch``,
                or it refuses the job. The script is kept.
            StorageError: the script cannot be written.
        """
        output = recipe.output.resolve()
        if "--resume" not in words and checkpoints_of(output):
            raise UserError(
                f"{output} holds a run already: give --resume to go on with it, or choose another "
                "output=FOLDER."
            )
        script = output / FOLDER / "run.sh"
        with storage_errors(output):
            script.parent.mkdir(parents=True, exist_ok=True)
            script.write_text(self.script(words, output=output))
        if not self._config.submit:
            sys.stdout.write(f"written, not submitted: sbatch {script}\n")
            return
        job = _submitted(script)
        sys.stdout.write(f"submitted as job {job}: {script}, log {script.parent / f'{job}.log'}\n")

    def script(self, words: Sequence[str], *, output: Path) -> str:
        """Return the script that runs ``openvla`` with these words, and goes on where it was before."""
        config = self._config
        resumed = words if "--resume" in words else [*words, "--resume"]
        command = [config.python or sys.executable, "-m", "openvla_toolkit", *resumed]
        options = (f"#SBATCH --{line}" for line in self._options(output))
        body = _BODY.format(
            srun="".join(f"{shlex.quote(word)} " for word in config.srun),
            command=shlex.join(command),
            stopped_by=shlex.quote(str(output / STOPPED_FILE)),
            signal=signal.SIGUSR1.name,
        )
        return "\n".join(["#!/bin/bash", *options, "", *config.setup, "", body])

    def _options(self, output: Path) -> Iterator[str]:
        config = self._config
        yield f"job-name={_quoted(f'openvla-{output.name}')}"
        yield f"chdir={_quoted(str(Path.cwd()))}"
        yield f"nodes={config.nodes}"
        yield f"ntasks-per-node={config.nproc}"
        if config.gpus:
            yield f"gpus-per-node={config.nproc}"
        if config.cpus is not None:
            yield f"cpus-per-task={config.cpus}"
        for name in ("partition", "account", "qos", "time"):
            if (value := getattr(config, name)) is not None:
                yield f"{name}={_quoted(value)}"
        yield f"signal=USR1@{config.notice}"
        yield "requeue"
        yield "open-mode=append"
        yield f"output={_quoted(str(output / FOLDER / '%j.log'))}"
        for name, option in config.options.items():
            yield name.lstrip("-") if option is None else f"{name.lstrip('-')}={_quoted(str(option))}"


def _quoted(value: str) -> str:
    """Quote what holds a space, as sbatch reads its own lines."""
    return f'"{value}"' if any(letter.isspace() for letter in value) else value


def _submitted(script: Path) -> str:
    """Hand a script to sbatch and return the number of the job."""
    if shutil.which("sbatch") is None:
        raise UserError(
            f"there is no 'sbatch' on this machine, so nothing was submitted. The script is {script}: submit "
            "it where SLURM is, or take launcher.name=local."
        )
    done = subprocess.run(["sbatch", "--parsable", str(script)], capture_output=True, text=True, check=False)
    if done.returncode:
        said = " / ".join(done.stderr.split("\n")).strip(" /") or "it says nothing"
        raise UserError(f"sbatch refuses {script} (exit code {done.returncode}): {said.rstrip('.')}.")
    return done.stdout.strip().partition(";")[0]  # behind it stands the name of the cluster
