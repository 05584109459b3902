"""The GPU benchmark works in small where there is no GPU, and there says so in place of inventing figures."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import benchmarks.__main__
import benchmarks.gpu


def test_without_a_device_it_says_so_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(benchmarks.__main__, "HERE", tmp_path)
    assert benchmarks.__main__.main(["gpu"]) == 2
    assert "there is no CUDA device" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning:transformers.*")
def test_in_small_all_loops_train(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(benchmarks.__main__, "HERE", tmp_path)
    assert benchmarks.__main__.main(["gpu", "--tiny"]) == 0
    said = capsys.readouterr().out
    assert "LoRA r4, bf16, batch 4: speed" in said
    assert "blocks computed twice: speed" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore::FutureWarning:transformers.*")
def test_both_loops_learn_the_same_of_the_same() -> None:
    """The speeds of two loops compare only where they do the same work."""
    device, shape = torch.device("cpu"), benchmarks.gpu.TINY
    ours, theirs = (make(shape, device) for make in (benchmarks.gpu.toolkit, benchmarks.gpu.by_hand))
    first, other = ours(), theirs()
    assert first == pytest.approx(other, rel=1e-2)
    assert first == pytest.approx(math.log(320), rel=0.1)
    assert [ours() for _ in range(5)][-1] < first
    assert [theirs() for _ in range(5)][-1] < other
