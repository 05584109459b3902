"""Pack the part of a kit that is compared here: ``python -m tests.conformance.trim KIT ARCHIVE``.

What waits for later work is left out, and what is large beside what it adds: pictures that are also recorded
as digests, and training runs in float32, whose tensors the converted form does not repeat.
"""

from __future__ import annotations

import io
import json
import lzma
import sys
import tarfile
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np

from tests.conformance.kinds import LATER, homes, kinds

LARGE = ("images/outputs_uint8.npz", "eval_utils/in_1.png", "eval_utils/in_5.png")
THINNED = {
    "rlds/expected/trajectories.npz": ("bridge_q99_3views/*/first_frame", "*/1/*/first_frame"),
    "rlds/expected/image_ops.npz": (
        *("*/decoded", "*/2/resized_224", "*/2/down_50x61", "raw/[23]/*"),
        *("bridge_orig/1/*", "fractal*/1/*", "libero*/1/*", "*/image_1/*", "*/wrist_image/*"),
    ),
    "eval_utils/arrays.npz": ("[!c]*", "crop_[!0]*", "crop_0_[15]*"),
}
"""File -> arrays that are left out: pictures that are recorded as digests or samples of numbers too."""


def pack(kit: Path, archive: Path) -> None:
    """Write an archive; the same kit always gives the same bytes."""
    with tarfile.open(archive, "w:xz", preset=9 | lzma.PRESET_EXTREME) as file:
        for path in chosen(kit):
            place = path.relative_to(kit).as_posix()
            if place in THINNED:
                content = _thinned(path, THINNED[place])
                entry = tarfile.TarInfo(place)
                entry.size = len(content)
                file.addfile(_anonymous(entry), io.BytesIO(content))
            else:
                file.add(path, place, filter=_anonymous)


def chosen(kit: Path) -> Iterator[Path]:
    """Yield the files of a kit that hold anything compared here, the large ones left out."""
    places = {kind.partition(": ")[0] for kind in kinds(kit) if not set(homes(kind)) & set(LATER)}
    for place in sorted(places.difference(LARGE)):
        if not _is_of_full_precision_run(kit, place):
            yield kit / place


def _thinned(path: Path, patterns: Sequence[str]) -> bytes:
    """Return an npz file without some arrays; what is not packed within packs better in the archive."""
    with np.load(path, allow_pickle=False) as file:
        kept = {
            name: file[name]
            for name in file.files
            if not any(fnmatchcase(name, pattern) for pattern in patterns)
        }
    stream = io.BytesIO()
    np.savez(stream, **kept)
    return stream.getvalue()


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
