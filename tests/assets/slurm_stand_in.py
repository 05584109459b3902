"""A stand-in for SLURM on one machine: ``sbatch``, ``srun`` and ``scontrol``, as far as a run needs them.

It really runs the script that it is given, with the variables that SLURM sets: one process for each task, all
on this machine. ``srun`` passes on signals, as SLURM sends them when time is nearly over. When a task fails
it sends the others SIGTERM at once, and SIGKILL after ``GRACE`` seconds. There is no queue: a job starts at
once, and so does one that is queued again.

The file is called by three names, which ``installed`` makes; ``STAND_IN`` is the folder for a job's traces.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

JOB = "4711"
GRACE = 20.0


def installed(folder: Path) -> Path:
    """Make the three programs, and return the folder to put on the PATH."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    for name in ("sbatch", "srun", "scontrol"):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        program.chmod(0o755)
    return programs


def sbatch(words: list[str]) -> int:
    """Print the job's number and leave it to a process of its own."""
    *options, script = words
    assert options == ["--parsable"], options
    text = Path(script).read_text()
    if "#SBATCH --partition=closed" in text:
        sys.stderr.write("sbatch: error: invalid partition specified: closed\n")
        return 1
    copy = traces() / "run.sh"
    copy.write_text(text)
    subprocess.Popen(
        [sys.executable, __file__, "job", str(copy)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    sys.stdout.write(f"{JOB};cluster\n")
    return 0


def job(words: list[str]) -> int:
    """Run a script, again each time that it asks for it; note the exit codes."""
    script = Path(words[0])
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", script.read_text(), re.MULTILINE))
    nodes, each = int(options["nodes"]), int(options["ntasks-per-node"])
    variables = {
        "SLURM_JOB_ID": JOB,
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NTASKS": str(nodes * each),
        "SLURM_NTASKS_PER_NODE": str(each),
    }
    codes: list[str] = []
    again = traces() / "again"
    while not codes or again.exists():
        again.unlink(missing_ok=True)
        with Path(options["output"].strip('"').replace("%j", JOB)).open("a") as log:
            done = subprocess.run(
                ["bash", str(script)],
                env={**os.environ, **variables, "SLURM_RESTART_COUNT": str(len(codes))},
                cwd=options["chdir"].strip('"'),
                stdout=log,
                stderr=log,
                check=False,
            )
        codes.append(str(done.returncode))
    (traces() / "ended.partial").write_text(" ".join(codes))
    (traces() / "ended.partial").rename(traces() / "ended")
    return 0


def srun(words: list[str]) -> int:
    """Start the tasks, pass SIGUSR1 on to them, and return the highest exit code."""
    assert words[0] == "--kill-on-bad-exit=1", words
    while words[0].startswith("--"):
        words = words[1:]
    each = int(os.environ["SLURM_NTASKS_PER_NODE"])
    tasks: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        for task in tasks:
            if task.poll() is None:
                task.send_signal(number)

    for one in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(one, pass_on)
    for number in range(int(os.environ["SLURM_NTASKS"])):
        own = {"SLURM_PROCID": str(number), "SLURM_LOCALID": str(number % each)}
        tasks.append(subprocess.Popen(words, env={**os.environ, **own}))
    while all(task.poll() in (None, 0) for task in tasks) and any(task.poll() is None for task in tasks):
        time.sleep(0.02)
    pass_on(signal.SIGTERM, None)
    deadline = time.monotonic() + GRACE
    while any(task.poll() is None for task in tasks) and time.monotonic() < deadline:
        time.sleep(0.02)
    for task in tasks:
        task.kill()
    codes = [task.wait() for task in tasks]
    return max(code if code >= 0 else 128 - code for code in codes)


def scontrol(words: list[str]) -> int:
    """Say the machines' names, of which the first is this one; take note of a job that shall run again."""
    if words[:2] == ["show", "hostnames"]:
        sys.stdout.write("127.0.0.1\nnode2\n")
    elif words == ["requeue", JOB]:
        (traces() / "again").touch()
    else:
        raise SystemExit(f"the stand-in for scontrol does not know {words}")
    return 0


def traces() -> Path:
    return Path(os.environ["STAND_IN"])


if __name__ == "__main__":
    sys.exit({"sbatch": sbatch, "job": job, "srun": srun, "scontrol": scontrol}[sys.argv[1]](sys.argv[2:]))
