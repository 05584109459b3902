"""A public bucket of Google's as a source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote

from openvla_toolkit.downloads.http import Body, opened, read_json
from openvla_toolkit.downloads.sources import RemoteFile, check_whole, checksums, versions_among

__all__ = ["Bucket"]


class Bucket:
    """A public bucket, through its JSON interface; nobody has to sign in."""

    def __init__(self, host: str, *, bucket: str, prefix: str) -> None:
        self._host, self._bucket, self._prefix = host, bucket, prefix

    def read(self, folder: str, name: str) -> bytes:
        """Return a small file."""
        with opened(self._url(f"{self._path(folder)}{name}")) as body:
            return body.stream.read()

    def files(self, folder: str, names: Sequence[str]) -> list[RemoteFile]:
        """Find the files in the listing of the folder."""
        path = self._path(folder)
        listed = {
            item["name"].removeprefix(path): item
            for page in self._pages(path, "items(name,size,md5Hash,crc32c)")
            for item in page.get("items", ())
        }
        check_whole(listed, names, self._url(path))
        return [
            RemoteFile(
                name=name,
                size=int(listed[name]["size"]),
                address=self._url(path + name),
                **checksums(listed[name]),
            )
            for name in names
        ]

    def versions(self, folder: str) -> list[str]:
        """List the folders of the data set that have the name of a version."""
        pages = self._pages(self._path(folder), "prefixes")
        found = {
            prefix.rstrip("/").rpartition("/")[2] for page in pages for prefix in page.get("prefixes", ())
        }
        return versions_among(found)

    def opened(self, file: RemoteFile, *, start: int) -> AbstractContextManager[Body]:
        """Read a file from a byte on."""
        return opened(file.address, start=start)

    def _path(self, folder: str) -> str:
        return f"{self._prefix}/{folder}/".lstrip("/")

    def _url(self, path: str) -> str:
        return f"{self._host}/{self._bucket}/{quote(path)}"

    def _pages(self, path: str, fields: str) -> Iterator[dict[str, Any]]:
        query = {"prefix": path, "delimiter": "/", "fields": f"{fields},nextPageToken"}
        while True:
            page = read_json(f"{self._host}/storage/v1/b/{self._bucket}/o", query)
            yield page
            if "nextPageToken" not in page:
                return
            query["pageToken"] = page["nextPageToken"]
