"""What ``openvla doctor`` runs in a process of its own: import things, and say how it went.

``python -m openvla_toolkit.cli.probe package NAME`` imports every component and verb of one distribution;
``... torch`` imports torch. Each line written is one JSON object.
"""

from __future__ import annotations

import json
import sys
import time

from openvla_toolkit.core.errors import OpenVLAError
from openvla_toolkit.core.registry import KINDS, commands, distribution_name, find, load_command, load_entry

__all__ = ["main"]


def main(arguments: list[str]) -> None:
    """Run one probe."""
    if arguments[0] == "torch":
        _say(**_torch())
    else:
        _package(arguments[1])


def _package(name: str) -> None:
    for kind in KINDS:
        for entries in find(kind).values():
            for entry in entries:
                if distribution_name(entry) == name:
                    _say(kind=kind, name=entry.name)  # stands alone when the import kills this process
                    _timed(kind, entry.name, lambda kind=kind, entry=entry: load_entry(kind, entry))
    for verb, entries in commands().items():
        if name in map(distribution_name, entries):
            _say(kind="verb", name=verb)
            _timed("verb", verb, lambda verb=verb: load_command(verb))


def _timed(kind: str, name: str, load: object) -> None:
    start = time.perf_counter()
    error = None
    try:
        load()  # type: ignore[operator]
    except OpenVLAError as problem:
        error = str(problem)
    _say(kind=kind, name=name, seconds=round(time.perf_counter() - start, 3), error=error)


def _torch() -> dict[str, object]:
    start = time.perf_counter()
    import torch

    seconds = round(time.perf_counter() - start, 3)
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU"
    return {"version": torch.__version__, "build": build, "gpus": gpus, "seconds": seconds}


def _say(**values: object) -> None:
    sys.stdout.write(json.dumps(values) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
