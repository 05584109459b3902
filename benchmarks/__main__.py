"""Measure the named groups (all without names) and write ``benchmarks/results/<group>.json`` and ``.md``.

``--tiny`` has a group that needs a special machine show that its code works here; nothing is written.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path

from benchmarks.rows import Row, table, write
from openvla_toolkit.core.errors import UserError

HERE = Path(__file__).parent
GROUPS = sorted(path.parent.name for path in HERE.glob("*/__init__.py"))
_TINY = "--tiny"


def main(words: list[str]) -> int:
    """Run the groups; exit code 2 for a group that does not exist, or cannot be measured here and was named.

    A missed target is a row, not an error.
    """
    names = [word for word in words if word != _TINY]
    if unknown := sorted(set(names) - set(GROUPS)):
        print(f"no group of benchmarks named {', '.join(unknown)}; there are {', '.join(GROUPS)}.")
        return 2
    refused = False
    for name in names or GROUPS:
        measure: Callable[..., list[Row]] = import_module(f"benchmarks.{name}").measure
        if _TINY in words:
            if "tiny" in signature(measure).parameters:
                print(table(measure(tiny=True)))
            continue
        try:
            rows = measure()
        except UserError as error:
            print(error)
            refused = True
            continue
        write(rows, group=name, folder=HERE / "results")
        print(table(rows))
    return 2 if refused and names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
