"""Settings of the built-in launchers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator

from openvla_toolkit.interfaces.launcher import LauncherConfig

if TYPE_CHECKING:
    from openvla_toolkit.launchers.local import LocalLauncher
    from openvla_toolkit.launchers.slurm import SlurmLauncher

__all__ = ["LocalConfig", "SlurmConfig"]


class LocalConfig(LauncherConfig):
    """Processes on this machine, watched until the last has ended; ``--nproc N`` is short for it."""

    name: Literal["local"] = "local"
    nproc: int = Field(default=1, gt=0)
    """Processes; on GPUs one for each."""
    grace: float = Field(default=10.0, ge=0)
    """Seconds until those are killed that still run: after one has failed, or stopped as a signal asked, and
    after a second signal. The first one waits for the save, however long it takes."""

    @property
    def processes(self) -> int:
        """How many processes the run will have."""
        return self.nproc

    def build(self) -> LocalLauncher:
        """Make the launcher."""
        from openvla_toolkit.launchers.local import LocalLauncher

        return LocalLauncher(self)


_WRITTEN = (
    "job-name",
    "chdir",
    "nodes",
    "ntasks-per-node",
    "gpus-per-node",
    "cpus-per-task",
    "partition",
    "account",
    "qos",
    "time",
    "signal",
    "requeue",
    "open-mode",
    "output",
)
"""Options of sbatch that the script has anyway."""


class SlurmConfig(LauncherConfig):
    """A job of SLURM: a script is written into the output folder and submitted.

    The job is told two minutes before its time is over, saves, and queues itself again until the run is done.
    """

    name: Literal["slurm"] = "slurm"
    nodes: int = Field(default=1, gt=0)
    """Machines."""
    nproc: int = Field(default=1, gt=0)
    """Processes on each; on GPUs one for each."""
    gpus: bool = True
    """Ask for a GPU for each process."""
    cpus: int | None = Field(default=None, gt=0)
    """CPU cores for each process, its loader's workers included; None leaves it to the cluster."""
    partition: str | None = None
    """Where the job queues."""
    account: str | None = None
    """Who pays."""
    qos: str | None = None
    """Quality of service."""
    time: str | None = None
    """The longest that the job may run at a stretch, as sbatch takes it: ``12:00:00``, ``2-00:00:00``."""
    notice: int = Field(default=120, gt=0)
    """Seconds before that in which the run is told to save; a checkpoint must be written by then."""
    options: dict[str, str | int | None] = Field(default_factory=dict)
    """More of sbatch's options: ``{constraint: h100, mem: 0, exclusive: null}``."""
    setup: list[str] = Field(default_factory=list)
    """Lines of the script before anything runs: ``module load cuda``, ``source venv/bin/activate``."""
    srun: list[str] = Field(default_factory=list)
    """More of srun's options: ``--container-image=...`` and ``--container-mounts=...`` of a container."""
    python: str | None = None
    """The Python that runs it, such as ``python`` of an environment that ``setup`` activates; None is the one
    that submits, which all machines must see."""
    submit: bool = True
    """Submit the script; false only writes it."""

    @field_validator("options")
    @classmethod
    def _is_not_written_anyway(cls, options: dict[str, str | int | None]) -> dict[str, str | int | None]:
        if twice := [key for key in options if key.lstrip("-") in _WRITTEN]:
            raise ValueError(
                f"'{twice[0]}' is written by the launcher; its settings have what can be chosen."
            )
        return options

    @field_validator("options", "setup", "srun", "partition", "account", "qos", "time")
    @classmethod
    def _is_one_line_each(cls, value: object) -> object:
        """Refuse what would begin a line of the script in the middle of another."""
        if isinstance(value, dict):
            texts: list[object] = [*value, *value.values()]
        else:
            texts = value if isinstance(value, list) else [value]
        if any("\n" in str(text) for text in texts):
            raise ValueError("a line break cannot stand here; give one entry for each line.")
        return value

    @property
    def processes(self) -> int:
        """How many processes the run will have."""
        return self.nodes * self.nproc

    def build(self) -> SlurmLauncher:
        """Make the launcher."""
        from openvla_toolkit.launchers.slurm import SlurmLauncher

        return SlurmLauncher(self)
