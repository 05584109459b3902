"""What a place that holds data sets must offer, and what places have in common."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from openvla_toolkit.core.errors import MissingFile
from openvla_toolkit.downloads.http import Body

__all__ = ["RemoteFile", "Source", "check_whole", "checksums", "versions_among"]

_VERSION = re.compile(r"\d+\.\d+\.\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """One file that can be fetched."""

    name: str
    size: int
    address: str
    """Where the source finds it."""
    crc32c: int | None = None
    md5: bytes | None = None


class Source(Protocol):
    """A place that holds ``<folder>/<file>``; its methods may be called from several threads."""

    def read(self, folder: str, name: str) -> bytes:
        """Return a small file; raises ``MissingFile``, ``Interrupted`` or ``DownloadError``."""
        ...

    def files(self, folder: str, names: Sequence[str]) -> list[RemoteFile]:
        """Return files of a folder with their sizes, and their checksums where the place has some.

        Raises:
            MissingFile: some do not exist; says how many and names the first.
        """
        ...

    def versions(self, folder: str) -> list[str]:
        """Return the versions of a data set, oldest first; none where the place cannot be listed."""
        ...

    def opened(self, file: RemoteFile, *, start: int) -> AbstractContextManager[Body]:
        """Read a file from a byte on; raises as ``http.opened`` does."""
        ...


def check_whole(found: Mapping[str, object], names: Sequence[str], place: str) -> None:
    """Raise ``MissingFile`` unless every name was found."""
    missing = [name for name in names if name not in found]
    if missing:
        raise MissingFile(
            f"{place.rstrip('/')} lacks {len(missing)} of the {len(names)} files of the data set, the first "
            f"is {missing[0]}. What is there is not whole: choose another --version or --source."
        )


def checksums(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checksums in an item of a listing (base64), as arguments of ``RemoteFile``."""
    crc, md5 = item.get("crc32c"), item.get("md5Hash")
    return {
        "crc32c": int.from_bytes(base64.b64decode(crc), "big") if isinstance(crc, str) else None,
        "md5": base64.b64decode(md5) if isinstance(md5, str) else None,
    }


def versions_among(names: Iterable[str]) -> list[str]:
    """Return the names that are versions, oldest first."""
    found = [name for name in set(names) if _VERSION.fullmatch(name)]
    return sorted(found, key=lambda name: [int(part) for part in name.split(".")])
