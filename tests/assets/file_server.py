"""A real HTTP server on the loopback that gives files as object stores do: sizes, marks, ranges."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote


@dataclass
class FileServer:
    """What is served and how; may be changed while it runs."""

    folder: Path
    ranges: bool = True
    """Honour ``Range``; otherwise the whole file is sent, as Python's own server does."""
    listing: bool = True
    """Show what is in a folder as a page of links."""
    marks: bool = True
    """Send ETag."""
    status: int = 200
    """Answer everything with this, if it is not 200."""
    url: str = ""
    asked: list[tuple[str, str, int]] = field(default_factory=list)
    """(method, path, bytes sent) of every request."""

    def sent(self, name: str) -> int:
        """Return how many bytes of files of which ``name`` is a part were sent."""
        return sum(size for _, path, size in self.asked if name in path)


@contextmanager
def serving(folder: Path, **settings: Any) -> Iterator[FileServer]:
    """Serve a folder while the block runs."""
    content = FileServer(folder, **settings)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"content": content}))
    server.daemon_threads = True
    content.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield content
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    content: FileServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_HEAD(self) -> None:
        self._answer("HEAD")

    def do_GET(self) -> None:
        self._answer("GET")

    def log_message(self, *args: Any) -> None:
        """Keep the output of tests free of requests."""

    def _answer(self, method: str) -> None:
        content = self.content
        path = content.folder / unquote(self.path).strip("/")
        if content.status != 200 or not path.exists() or (path.is_dir() and not content.listing):
            self._send(method, content.status if content.status != 200 else 404, b"", {})
        elif path.is_dir():
            names = [f"{entry.name}/" if entry.is_dir() else entry.name for entry in sorted(path.iterdir())]
            page = "".join(f'<a href="{name}">{name}</a>\n' for name in names).encode()
            self._send(method, 200, page, {"Content-Type": "text/html"})
        else:
            self._file(method, path.read_bytes())

    def _file(self, method: str, data: bytes) -> None:
        headers = {"Content-Type": "application/octet-stream"}
        if self.content.marks:
            headers["ETag"] = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        asked = self.headers.get("Range")
        if asked is None or not self.content.ranges:
            self._send(method, 200, data, headers)
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start, stop = int(first), min(int(last or len(data) - 1), len(data) - 1) + 1
        if start >= len(data):
            self._send(method, 416, b"", headers)
            return
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        self._send(method, 206, data[start:stop], headers)

    def _send(self, method: str, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        sent = 0 if method == "HEAD" else len(body)
        self.content.asked.append((method, self.path, sent))
        if sent:
            self.wfile.write(body)
