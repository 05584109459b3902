"""The server of a loader's workers imports their code before they are asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from openvla_toolkit.core.worker import fork_server

def loaded(answer):
    answer.send("colorsys" in sys.modules)

if __name__ == "__main__":
    context = fork_server("colorsys")
    assert "colorsys" not in sys.modules, "it is imported there, not here"
    assert fork_server("colorsys")._name == context._name == "forkserver"
    here, there = context.Pipe()
    worker = context.Process(target=loaded, args=(there,))
    worker.start()
    print(here.recv())
    worker.join()
"""


def test_workers_find_their_code_imported(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("True\n", "")
