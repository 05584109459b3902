"""Where files lie: a folder of this machine, or a URL that fsspec reads (``s3://``, ``gs://``, ``http://``).

A ``RemotePath`` answers the questions that reading data asks of a ``Path``, by the same names. fsspec and the
packages behind it are imported when the first remote file is touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO, NamedTuple, TypeAlias, cast

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

from openvla_toolkit.core.errors import DataError, MissingDependency, MissingFile, OpenVLAError, UserError

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ["FileStatus", "LocalFolder", "Location", "RemotePath", "as_location", "statuses"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://.+")
_SAME_CONTENT = ("ETag", "etag", "md5Hash", "crc32c", "Content-MD5", "Last-Modified", "LastModified", "mtime",
                 "updated", "created")  # fmt: skip
"""What file systems call the mark of a file's content, or the time of its change; the surest first."""
_NOT_THERE = (401, 403, 404, 410)
"""What servers answer for a file that does not exist, or whose existence they do not tell."""
_AT_ONCE = 16
_NEAR = 256 * 1024
"""Ranges that lie closer than this are read as one: a request costs more than these bytes."""
_LARGEST = 16 * 1024 * 1024
"""Bytes of one request; a span that has grown to them is followed by another."""
_PIECES = 4


class FileStatus(NamedTuple):
    """What is known of a file without reading it."""

    size: int
    changed: str
    """Another text when the content is another; empty where the server tells neither mark nor time."""


class RemotePath:
    """A file or folder behind a URL. Equal URLs are equal; copies may be pickled."""

    __slots__ = ("url",)

    def __init__(self, url: str) -> None:
        """Raise ValueError for what is no URL, or one with a query, which has nothing below it."""
        if not _URL.fullmatch(url) or "?" in url:
            raise ValueError(f"'{url}' is not a URL of a folder, such as s3://bucket/data.")
        self.url = url.rstrip("/")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls)

    def __truediv__(self, name: str | Path) -> RemotePath:
        return RemotePath(f"{self.url}/{name}")

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemotePath('{self.url}')"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RemotePath) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    @property
    def name(self) -> str:
        """The last part."""
        return self.url.rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """The folder above; a bucket or host has none but itself."""
        above = self.url.rpartition("/")[0]
        return RemotePath(above) if _URL.fullmatch(above) else self

    def resolve(self) -> RemotePath:
        """Return the path itself: a URL is absolute."""
        return self

    def exists(self) -> bool:
        """Tell whether there is a file or folder."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        """Tell whether there is a file that may be read."""
        try:
            self.status()
        except (FileNotFoundError, IsADirectoryError):
            return False
        return True

    def is_dir(self) -> bool:
        """Tell whether there is a folder with something in it that the server lists."""
        return bool(self._entries())

    def iterdir(self) -> Iterator[RemotePath]:
        """Yield what the server lists in a folder; nothing where it lists nothing."""
        for entry in self._entries():
            yield self / str(entry["name"]).rstrip("/").rpartition("/")[2]

    def status(self) -> FileStatus:
        """Return size and mark of a file.

        Raises:
            FileNotFoundError: there is none.
            IsADirectoryError: it is a folder.
            DataError: the server cannot be reached or does not tell the size; names the URL.
        """
        files, path = _opened(self.url)
        with self._reading():
            return self._status(files.info(path))

    def read_bytes(self) -> bytes:
        """Return the whole file; raises as ``status``."""
        files, path = _opened(self.url)
        with self._reading():
            return bytes(files.cat_file(path))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the whole file as text; raises as ``status``."""
        return self.read_bytes().decode(encoding)

    def read_ranges(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Return the bytes from each start up to its end; neighbours share a request, requests run at once.

        Raises:
            FileNotFoundError: the file does not exist.
            DataError: it cannot be read, it ends sooner, or its server knows no ranges; names the URL.
        """
        files, path = _opened(self.url)
        spans, holder = _spans(ranges)
        starts, ends = [span[0] for span in spans], [span[1] for span in spans]
        with self._reading():
            parts = files.cat_ranges([path] * len(spans), starts, ends, on_error="raise")
        for (start, end), part in zip(spans, parts, strict=True):
            if len(part) > end - start:
                raise self._without_ranges()
            if len(part) < end - start:
                raise DataError(
                    f"bytes {start} to {end} were asked for, {len(part)} came: the file is shorter than when "
                    "its index was built, or truncated; build the index anew or copy the file again.",
                    file=self.url,
                )
        return [
            parts[span][start - spans[span][0] : end - spans[span][0]]
            for span, (start, end) in zip(holder, ranges, strict=True)
        ]

    def check_ranges(self) -> None:
        """Read two bytes of a file, to learn early whether its server can give a part of a file.

        Raises:
            DataError: it gives the whole file instead.
        """
        self.read_ranges([(0, 2)])

    def copy_to(self, stream: BinaryIO, *, size: int) -> None:
        """Write a file of ``size`` bytes to an open local one, a few pieces at once; raises as above."""
        starts = range(0, size, _LARGEST)
        pieces = [(start, min(start + _LARGEST, size)) for start in starts]
        for first in range(0, len(pieces), _PIECES):
            for content in self.read_ranges(pieces[first : first + _PIECES]):
                stream.write(content)

    def _entries(self) -> list[dict[str, Any]]:
        files, path = _opened(self.url)
        try:
            with self._reading():
                files.invalidate_cache(path)
                listed = cast("list[dict[str, Any]]", files.ls(path, detail=True))
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [entry for entry in listed if str(entry["name"]).rstrip("/") != path.rstrip("/")]

    def _status(self, info: dict[str, Any]) -> FileStatus:
        if info.get("type") == "directory":
            raise IsADirectoryError(self.url)
        if info.get("size") is None:
            raise DataError("its server does not tell its size; copy it to a disk.", file=self.url)
        if info.get("partial") is False:
            raise self._without_ranges()
        marks = (f"{key} {info[key]}" for key in _SAME_CONTENT if info.get(key))
        return FileStatus(int(info["size"]), next(marks, ""))

    def _without_ranges(self) -> DataError:
        return DataError(
            "its server does not give parts of a file (HTTP ranges), which reading single pictures needs: "
            "serve it with one that does (nginx, any object store), or copy the data set to a disk.",
            file=self.url,
        )

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Let a missing file be a FileNotFoundError and name the URL in everything else that goes wrong."""
        try:
            yield
        except (OpenVLAError, IsADirectoryError, NotADirectoryError):
            raise
        except FileNotFoundError as error:
            cause = error.__cause__  # fsspec says of every answer to HEAD that the file is missing
            if cause is None or getattr(cause, "status", None) in _NOT_THERE:
                raise
            raise self._unreadable(cause) from error
        except Exception as error:  # each file system has errors of its own
            if getattr(error, "status", None) in _NOT_THERE:
                raise FileNotFoundError(self.url) from error
            raise self._unreadable(error) from error

    def _unreadable(self, error: BaseException) -> DataError:
        said = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        return DataError(
            f"it cannot be read: {said}; check the address, the network and your credentials.", file=self.url
        )


def as_location(value: object) -> object:
    """Turn a text with ``://`` into a ``RemotePath`` and leave all else; ``file://`` is a folder here."""
    if isinstance(value, str) and _URL.fullmatch(value):
        return Path(value.removeprefix("file://")) if value.startswith("file://") else RemotePath(value)
    return value


def _here_only(value: object) -> object:
    if isinstance(as_location(value), RemotePath):
        raise ValueError(
            f"this kind of data is read from folders of this machine only: copy {value} to a disk; a copy "
            "that is converted to RLDS (openvla data convert) can be read from a URL"
        )
    return value


Location: TypeAlias = Annotated[
    Path | RemotePath,
    BeforeValidator(as_location),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "format": "path"}),
]
"""The type of a setting that is a folder of this machine or a URL."""

LocalFolder: TypeAlias = Annotated[Path, BeforeValidator(_here_only)]
"""The type of a setting that is a folder of this machine; a URL is refused with the remedy."""


def statuses(folder: Path | RemotePath, names: Sequence[str]) -> list[FileStatus]:
    """Return size and mark of files of one folder, with as few requests as its file system allows.

    Raises:
        MissingFile: one does not exist.
        DataError: one cannot be read; names the URL.
    """
    if isinstance(folder, Path):
        return [_found(folder / name) for name in names]
    listed = {str(entry["name"]).rpartition("/")[2]: entry for entry in folder._entries()}
    known = {name: entry for name, entry in listed.items() if entry.get("size") is not None}
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # plain HTTP lists no sizes
        asked = pool.map(_found, [folder / name for name in names if name not in known])
        return [(folder / name)._status(known[name]) if name in known else next(asked) for name in names]


def _found(place: Path | RemotePath) -> FileStatus:
    try:
        if isinstance(place, RemotePath):
            return place.status()
        status = place.stat()
    except FileNotFoundError:
        raise MissingFile(
            f"{place} does not exist: the data set is incomplete; copy or download it again."
        ) from None
    return FileStatus(status.st_size, str(status.st_mtime_ns))


@lru_cache(maxsize=4096)
def _opened(url: str) -> tuple[Any, str]:
    """Return the file system of a URL and the path in it."""
    from fsspec.core import url_to_fs

    protocol = url.partition("://")[0]
    try:
        files, path = url_to_fs(url)
    except ImportError as error:
        package = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
        raise MissingDependency(
            f"reading {url}", package.get(protocol, str(error)), install="openvla-toolkit[remote]"
        ) from error
    except ValueError as error:
        raise UserError(f"{url}: {error}.") from error
    return files, str(path)


def _spans(ranges: Sequence[tuple[int, int]]) -> tuple[list[tuple[int, int]], list[int]]:
    """Join ranges that lie close together into requests; also return in which of them each range is."""
    spans: list[tuple[int, int]] = []
    holder = [0] * len(ranges)
    for number in sorted(range(len(ranges)), key=ranges.__getitem__):
        start, end = ranges[number]
        if spans and start - spans[-1][1] < _NEAR and end - spans[-1][0] <= _LARGEST:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
        holder[number] = len(spans) - 1
    return spans, holder
