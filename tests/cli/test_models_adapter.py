"""What ``openvla models convert`` says of an adapter."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from tests.checkpoints.small_models import saved, small_adapter


def test_the_base_of_an_adapter_of_the_toolkit_is_named(
    openvla: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    base, target = saved(tmp_path / "base"), tmp_path / "merged"
    adapter = small_adapter(tmp_path / "adapter", base=str(base))
    for file in base.iterdir():
        if not file.name.startswith("model"):
            shutil.copy(file, adapter)  # the toolkit's adapters describe the whole policy
    code, out, err = openvla("models", "convert", str(adapter), str(target), "--to", "hf")
    assert code == 0, err
    assert out.splitlines()[0] == f"{base} + {adapter} -> {target}"
    elsewhere = base.rename(tmp_path / "elsewhere")
    words = ["--to", "hf", "--base", str(elsewhere)]
    code, out, err = openvla("models", "convert", str(adapter), str(tmp_path / "again"), *words)
    assert code == 0, err
    assert out.splitlines()[0] == f"{elsewhere} + {adapter} -> {tmp_path / 'again'}"
