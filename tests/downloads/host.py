"""A web server on this machine that holds files, lists them as a bucket does, and misbehaves on request."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import crc32c

__all__ = ["Host", "publish", "serving"]


class Host(ThreadingHTTPServer):
    """Files by path, for instance ``/gresearch/robotics/toto/0.1.0/features.json``."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[str]] = defaultdict(list)
        """Path -> what goes wrong with the next requests: busy, drop, spoil, refuse, grow, shift, stall."""
        self.ranges = True
        self.md5_only = False
        self.page = 2
        """Items on one page of a listing."""
        self.stalled = threading.Event()
        """Set when an answer has stopped half-way."""
        self.resumed = threading.Event()
        """Lets such answers go on."""
        self.asked: list[tuple[str, str | None]] = []
        """Path and range of every request for a file."""

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of connections that were cut on purpose."""


@contextmanager
def serving() -> Iterator[Host]:
    """Serve until the block ends."""
    host = Host()
    thread = threading.Thread(target=host.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield host
    finally:
        host.resumed.set()
        host.shutdown()
        thread.join()
        host.server_close()


def publish(host: Host, folder: Path, path: str) -> None:
    """Put the files of a folder on the server."""
    host.files |= {f"/{path}/{file.name}": file.read_bytes() for file in folder.iterdir()}


class _Handler(BaseHTTPRequestHandler):
    server: Host
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        if path.startswith("/storage/v1/b/"):
            query = {key: values[0] for key, values in parse_qs(address.query).items()}
            self._send(200, json.dumps(self._listing(path.split("/")[4], query)).encode())
        else:
            self.server.asked.append((path, self.headers.get("Range")))
            self._file(path)

    def _file(self, path: str) -> None:
        faults = self.server.faults[path]
        fault = faults.pop(0) if faults else ""
        content = self.server.files.get(path)
        if content is None or fault in ("busy", "refuse"):
            self._send(404 if content is None else 503 if fault == "busy" else 403, b"no")
            return
        if fault == "grow":
            content += b"!"
        if fault == "spoil":
            content = content[:-1] + bytes([content[-1] ^ 1])
        asked = self.headers.get("Range") if self.server.ranges else None
        first, last = 0, len(content) - 1
        if asked is not None:
            left, _, right = asked.removeprefix("bytes=").partition("-")
            first, last = int(left) + 7 * (fault == "shift"), min(int(right or last), last)
        body = content[first : last + 1]
        self.send_response(200 if asked is None else 206)
        self.send_header("Content-Length", str(len(body)))
        if asked is not None:
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
        self.end_headers()
        if fault == "stall":
            self.wfile.write(body[: len(body) // 2])
            self.server.stalled.set()
            self.server.resumed.wait(60)
            self.close_connection = True
            return
        if fault == "drop":
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def _listing(self, bucket: str, query: dict[str, str]) -> dict[str, object]:
        start = f"/{bucket}/{query['prefix']}"
        below = [path.removeprefix(f"/{bucket}/") for path in self.server.files if path.startswith(start)]
        here = sorted(name for name in below if "/" not in name.removeprefix(query["prefix"]))
        folders = {name.removeprefix(query["prefix"]).partition("/")[0] for name in set(below) - set(here)}
        first = int(query.get("pageToken", "0"))
        page: dict[str, object] = {
            "items": [self._item(bucket, name) for name in here[first : first + self.server.page]],
            "prefixes": sorted(f"{query['prefix']}{folder}/" for folder in folders),
        }
        if first + self.server.page < len(here):
            page["nextPageToken"] = str(first + self.server.page)
        return page

    def _item(self, bucket: str, name: str) -> dict[str, str]:
        content = self.server.files[f"/{bucket}/{name}"]
        sums = {"md5Hash": base64.b64encode(hashlib.md5(content).digest()).decode()}
        if not self.server.md5_only:
            sums["crc32c"] = base64.b64encode(crc32c.crc32c(content).to_bytes(4, "big")).decode()
        return {"name": name, "size": str(len(content)), **sums}

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
