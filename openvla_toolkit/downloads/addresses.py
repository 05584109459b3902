"""From an address to the source that reads it."""

from __future__ import annotations

from urllib.parse import urlsplit

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.downloads.bucket import Bucket
from openvla_toolkit.downloads.folder import Folder
from openvla_toolkit.downloads.sources import Source
from openvla_toolkit.downloads.website import Website

__all__ = ["source_at"]

BUCKETS = "storage.googleapis.com"
"""Host of public buckets; their listing is asked for, as it has checksums."""


def source_at(address: str) -> Source:
    """Return what reads an address: ``https://...``, ``gs://...``, ``s3://...``, a folder, ...

    Raises:
        UserError: it is no address of a folder.
    """
    parts = urlsplit(address)
    if parts.scheme in ("http", "https"):
        if parts.netloc == BUCKETS:
            bucket, _, prefix = parts.path.strip("/").partition("/")
            return Bucket(f"{parts.scheme}://{parts.netloc}", bucket=bucket, prefix=prefix)
        return Website(address.rstrip("/"))
    try:
        return Folder(address)
    except ValueError as error:
        raise UserError(f"--source {address}: {error}") from error
