"""A script as several ranks of one run, for tests of engines."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["run_ranks"]


def run_ranks(words: Sequence[str], *, count: int, folder: Path | None = None, timeout: float = 300) -> None:
    """Run ``python WORDS`` as so many ranks on this machine, and wait until all have ended.

    Each has the variables that torchrun would set, and one CPU thread.

    Args:
        words: a script and its arguments, or ``-m`` and a module's name before them.
        folder: where they are run; by default here.
        timeout: seconds until they are given up.

    Raises:
        AssertionError: one failed; the text is what all of them said.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, *words],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        said = [rank.communicate(timeout=timeout)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    if any(rank.returncode for rank in ranks):
        codes = ", ".join(str(rank.returncode) for rank in ranks)
        raise AssertionError(f"the ranks ended with {codes}:\n" + "\n".join(said))
