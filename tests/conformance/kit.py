"""The kit: recorded values of the original in a fixed layout of folders, and how its files are read.

``OPENVLA_CONFORMANCE_KIT`` names a folder, or a ``.tar.xz`` archive of one; by default it is the trimmed kit
that lies in the repository. Nothing here knows how many cases there are, or of what sizes.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import tarfile
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VARIABLE = "OPENVLA_CONFORMANCE_KIT"
TRIMMED = Path(__file__).parents[1] / "golden" / "kit.tar.xz"


@cache
def root() -> Path:
    """Return the folder of the kit to compare with."""
    return opened(Path(os.environ.get(VARIABLE) or TRIMMED))


def opened(place: Path) -> Path:
    """Return the folder of a kit; an archive is unpacked into a temporary one."""
    if place.is_dir():
        return place.resolve()
    assert place.is_file(), f"{VARIABLE} is '{place}', which is neither a folder nor an archive of one."
    folder = tempfile.mkdtemp(prefix="openvla-kit-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tarfile.open(place) as archive:
        archive.extractall(folder, filter="data")
    return Path(folder)


@cache
def recorded(place: str) -> Any:
    """Return the content of a JSON file of the kit; None where the kit has no such file."""
    path = root() / place
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def cases(place: str, key: str = "cases") -> list[dict[str, Any]]:
    """Return the list under ``key`` of a JSON file; empty where the kit has no such file or key."""
    return list((recorded(place) or {}).get(key, ()))


@cache
def arrays(place: str) -> dict[str, NDArray[Any]]:
    """Return all arrays of an npz file of the kit; empty where there is no such file."""
    path = root() / place
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


@cache
def picture(place: str) -> NDArray[np.uint8]:
    """Return a picture of the kit as RGB, uint8 [height, width, 3]."""
    with Image.open(root() / place) as image:
        return np.asarray(image.convert("RGB"))


def models() -> list[str]:
    """Return the names of the model folders."""
    return sorted(path.parent.name for path in (root() / "model").glob("*/arch.json"))


def run_folders(model: str) -> list[Path]:
    """Return the run folders of the original's training below a model's folder."""
    return sorted(path.parent for path in (root() / "model" / model / "native").glob("*/checkpoints"))
