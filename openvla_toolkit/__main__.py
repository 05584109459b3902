"""``python -m openvla_toolkit``."""

from __future__ import annotations

from openvla_toolkit.cli import main

if __name__ == "__main__":
    main()
