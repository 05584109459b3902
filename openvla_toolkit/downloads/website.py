"""A web server as a source."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from urllib.parse import quote

from openvla_toolkit.core.errors import MissingFile
from openvla_toolkit.downloads.http import Body, Interrupted, opened
from openvla_toolkit.downloads.sources import RemoteFile, check_whole

__all__ = ["Website"]

AT_ONCE = 16
"""Questions for the sizes of files that are asked at the same time."""


class Website:
    """A web server, of which nothing is known but what one asks for; it gives no checksums."""

    def __init__(self, address: str) -> None:
        self._address = address

    def read(self, folder: str, name: str) -> bytes:
        """Return a small file."""
        with opened(self._url(folder, name)) as body:
            return body.stream.read()

    def files(self, folder: str, names: Sequence[str]) -> list[RemoteFile]:
        """Ask for the first byte of each file, which tells its size."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            sizes = dict(zip(names, pool.map(lambda name: self._size(folder, name), names), strict=True))
        check_whole(
            {name: size for name, size in sizes.items() if size is not None}, names, self._url(folder)
        )
        return [
            RemoteFile(name=name, size=size, address=self._url(folder, name))
            for name, size in sizes.items()
            if size is not None
        ]

    def versions(self, folder: str) -> list[str]:
        """Return nothing: web servers have no listing."""
        return []

    def opened(self, file: RemoteFile, *, start: int) -> AbstractContextManager[Body]:
        """Read a file from a byte on."""
        return opened(file.address, start=start)

    def _url(self, *parts: str) -> str:
        return "/".join([self._address, *(quote(part) for part in parts)])

    def _size(self, folder: str, name: str) -> int | None:
        url = self._url(folder, name)
        try:
            with opened(url, stop=1) as body:
                size = body.size
        except MissingFile:
            return None
        if size is None:
            raise Interrupted(f"{url}: the server does not say how large the file is.")
        return size
