"""Measure the named groups (all without names) and write ``benchmarks/results/<group>.json`` and ``.md``."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from benchmarks.rows import Row, table, write

HERE = Path(__file__).parent
GROUPS = sorted(path.parent.name for path in HERE.glob("*/__init__.py"))


def main(names: list[str]) -> int:
    """Run the groups; exit code 2 for a group that does not exist. A missed target is a row, not an error."""
    if unknown := sorted(set(names) - set(GROUPS)):
        print(f"no group of benchmarks named {', '.join(unknown)}; there are {', '.join(GROUPS)}.")
        return 2
    for name in names or GROUPS:
        rows: list[Row] = import_module(f"benchmarks.{name}").measure()
        write(rows, group=name, folder=HERE / "results")
        print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
