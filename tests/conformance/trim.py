"""Pack the part of a kit that is compared here: ``python -m tests.conformance.trim KIT ARCHIVE``.

What waits for later work is left out, and what is large beside what it adds: pictures that are also recorded
as digests, and training runs in float32, whose tensors the converted form does not repeat.
"""

from __future__ import annotations

import json
import lzma
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tests.conformance.kinds import LATER, homes, kinds

LARGE = ("images/outputs_uint8.npz",)


def pack(kit: Path, archive: Path) -> None:
    """Write an archive; the same kit always gives the same bytes."""
    with tarfile.open(archive, "w:xz", preset=9 | lzma.PRESET_EXTREME) as file:
        for path in chosen(kit):
            file.add(path, path.relative_to(kit).as_posix(), filter=_anonymous)


def chosen(kit: Path) -> Iterator[Path]:
    """Yield the files of a kit that hold anything compared here, the large ones left out."""
    places = {kind.partition(": ")[0] for kind in kinds(kit) if not set(homes(kind)) & set(LATER)}
    for place in sorted(places.difference(LARGE)):
        if not _is_of_full_precision_run(kit, place):
            yield kit / place


def _is_of_full_precision_run(kit: Path, place: str) -> bool:
    folder, mark, _ = place.partition("/native/")
    if not mark:
        return False
    dtype = json.loads((kit / folder / "arch.json").read_text())["native_checkpoint_dtype"]
    return bool(dtype == "torch.float32")


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.mtime = entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    entry.mode = 0o644
    return entry


if __name__ == "__main__":
    pack(Path(sys.argv[1]), Path(sys.argv[2]))
