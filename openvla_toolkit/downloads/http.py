"""Bytes over HTTP, from any position on; what can be tried again is told from what cannot.

The standard library suffices, and honours ``https_proxy`` and the system's certificates.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from openvla_toolkit import __version__
from openvla_toolkit.core.errors import DownloadError, MissingFile

__all__ = ["Body", "Interrupted", "Readable", "opened", "read_json"]

PATIENCE = 60.0
"""Seconds without a byte after which a connection counts as dead."""
AGAIN = {408, 425, 429, 500, 502, 503, 504}
"""Answers that mean: later."""
_PLACE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


class Interrupted(DownloadError):
    """The connection broke or the server is busy: the same request may succeed later."""


class Readable(Protocol):
    """What bytes come out of."""

    def read(self, count: int = -1, /) -> bytes:
        """Return at most ``count`` bytes, fewer only at the end."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """An answer that is being read."""

    stream: Readable
    start: int
    """Position of its first byte in the file: 0 where the server does not know ranges."""
    size: int | None
    """Bytes of the whole file, where the server says."""


@contextmanager
def opened(url: str, *, start: int = 0, stop: int | None = None) -> Iterator[Body]:
    """Read a file from byte ``start`` on, up to ``stop`` if that is given.

    Raises:
        MissingFile: the server has no such file.
        Interrupted: the connection broke, or the server is busy.
        DownloadError: the server refuses.
    """
    headers = {"User-Agent": f"openvla-toolkit/{__version__}", "Accept-Encoding": "identity"}
    if start or stop is not None:
        headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
    try:
        with urlopen(Request(url, headers=headers), timeout=PATIENCE) as answer:
            first, size = _extent(answer)
            yield Body(stream=answer, start=first, size=size)
    except HTTPError as error:
        error.close()
        if error.code in (404, 410):
            raise MissingFile(f"{url} does not exist.") from error
        kind = Interrupted if error.code in AGAIN else DownloadError
        raise kind(f"{url}: the server answered {error.code} {error.reason}.") from error
    except URLError as error:
        raise Interrupted(f"{url} cannot be reached: {error.reason}.") from error
    except (OSError, http.client.HTTPException) as error:
        raise Interrupted(f"{url}: the connection broke ({error or type(error).__name__}).") from error


def read_json(url: str, query: Mapping[str, str]) -> dict[str, Any]:
    """Return the JSON object at an address; raises as ``opened`` does."""
    with opened(f"{url}?{urlencode(query)}") as body:
        text = body.stream.read()
    try:
        content: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise DownloadError(f"{url}: expected JSON, found {text[:40]!r}.") from error
    return content


def _extent(answer: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Return where the answer begins in its file, and how long the file is."""
    place = _PLACE.fullmatch(answer.headers.get("Content-Range", "")) if answer.status == 206 else None
    if place is not None:
        return int(place[1]), None if place[2] == "*" else int(place[2])
    return 0, None if answer.length is None else int(answer.length)
