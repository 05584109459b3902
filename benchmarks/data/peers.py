"""What is measured beside ours: programs in an environment of their own, one process per figure."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from pathlib import Path

__all__ = ["figure", "peer_python"]

VARIABLE = "OPENVLA_PEER_PYTHON"
ENVIRONMENT = Path(__file__).parents[2] / ".nox" / "peers"
PROGRAMS = Path(__file__).parent / "peer_programs"
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
FFMPEG = re.compile(r"(lib(?:av|sw)\w+)-\w+\.so\.(\d+)\..*")


def peer_python() -> Path:
    """Return the interpreter of the peers: ``$OPENVLA_PEER_PYTHON``, else that of the session ``peers``.

    Raises:
        RuntimeError: there is none; says what makes it.
    """
    python = Path(os.environ.get(VARIABLE) or ENVIRONMENT / "bin" / "python")
    if not python.exists():
        raise RuntimeError(
            f"the peers are not installed: {python} does not exist. 'nox -s peers' makes it; or set "
            f"{VARIABLE} to a Python that has tensorflow, tensorflow-datasets and lerobot."
        )
    return python


def figure(program: str, *arguments: object) -> float:
    """Run a peer's program in a fresh process and return the figure that it printed last.

    Raises:
        RuntimeError: it failed; with what it said.
    """
    python = peer_python()
    with tempfile.TemporaryDirectory() as folder:
        _show_ffmpeg(python, Path(folder))
        done = subprocess.run(
            [str(python), str(PROGRAMS / f"{program}.py"), *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, **QUIET, "LD_LIBRARY_PATH": folder},
        )
    if done.returncode:
        raise RuntimeError(f"the peer '{program}' failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


def _show_ffmpeg(python: Path, folder: Path) -> None:
    """Let torchcodec find the FFmpeg that PyAV brings, under the names that it looks for."""
    find = "import av, pathlib; print(pathlib.Path(av.__file__).parent.with_name('av.libs'))"
    place = subprocess.run(
        [str(python), "-c", find], capture_output=True, text=True, check=True
    ).stdout.strip()
    for library in Path(place).glob("*.so*"):
        (folder / library.name).symlink_to(library)
        if match := FFMPEG.fullmatch(library.name):
            (folder / f"{match[1]}.so.{match[2]}").symlink_to(library)
