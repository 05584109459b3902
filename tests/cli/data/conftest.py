from __future__ import annotations

from tests.downloads.conftest import host, recorded

__all__ = ["host", "recorded"]
