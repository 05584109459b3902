"""The dots' episodes in every form that is read, written once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit.pipeline.convert import Job, convert
from openvla_toolkit.testing import DotsEpisodesConfig

SOURCE = DotsEpisodesConfig(episodes=5, dataset="dots")
FORMS: dict[str, dict[str, Any]] = {
    "v3.0 video": {"to": "lerobot", "settings": {"codec": "libx264", "crf": 10, "keyframe_every": 4}},
    "v2.1 video": {"to": "lerobot", "settings": {"version": "v2.1", "codec": "libx264", "crf": 10}},
    "v3.0 image": {"to": "lerobot", "settings": {"pictures": "image"}},
    "v2.1 image": {"to": "lerobot", "settings": {"version": "v2.1", "pictures": "image"}},
    "rlds": {"to": "rlds", "settings": {}},
}


@pytest.fixture(scope="session")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every form of the same episodes; tests that change one take a ``copy``."""
    root = tmp_path_factory.mktemp("forms")
    made = {}
    for form, how in FORMS.items():
        made[form] = root / form.replace(" ", "-") / "dots"
        # Seven frames a shard: v3.0 gets several files, with several episodes in some.
        convert(Job(source=SOURCE, destination=made[form], shard_frames=7, **how))
    for kind in ("video", "image"):
        old = made[f"v2.0 {kind}"] = root / f"v2.0-{kind}" / "dots"
        shutil.copytree(made[f"v2.1 {kind}"], old)
        info = json.loads((old / "meta" / "info.json").read_text())
        (old / "meta" / "info.json").write_text(json.dumps(info | {"codebase_version": "v2.0"}))
        (old / "meta" / "episodes_stats.jsonl").rename(old / "meta" / "stats.json")
    return made


@pytest.fixture
def copy(forms: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    """Give a copy of a form that may be changed."""

    def copied(form: str) -> Path:
        return Path(shutil.copytree(forms[form], tmp_path / form.replace(" ", "-")))

    return copied
