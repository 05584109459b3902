"""Loops become machine code, kept on disk where that can be written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

from openvla_toolkit.core.images import canvas, colour
from openvla_toolkit.core.images.compiled import compiled

LOOPS = [canvas.resampled, canvas.to_pixels, colour.brighten, colour.contrast, colour.recoloured]


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_one_form_of_every_loop_is_compiled_and_kept(loop: Any) -> None:
    for shape, size in [((8, 9, 3), (5, 4)), ((30, 20, 3), (7, 7))]:
        picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        taps = [(np.zeros(edge, dtype=np.int64), np.ones((edge, 1), dtype=np.float32) / 2) for edge in size]
        made = canvas.resampled(picture, *taps[0], *taps[1])
        colour.brighten(made, 0.1)
        colour.contrast(made, 1.1)
        assert canvas.to_pixels(made, 1.0, 0.5).shape == (*size, 3)
        assert colour.recoloured(made, 0.0, 1.0, 1.0, 0.0).shape == (*size, 3)
    assert len(loop.signatures) == 1, "every other form costs seconds at its first call"
    assert Path(loop.stats.cache_path).is_dir()


def test_without_a_place_to_keep_it_a_loop_works(monkeypatch: pytest.MonkeyPatch) -> None:
    original = numba.njit

    def homeless(*_: Any, cache: bool = False, **options: Any) -> Any:
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return original(**options)

    monkeypatch.setattr(numba, "njit", homeless)

    @compiled
    def total(levels: Any) -> float:
        found = 0.0
        for level in levels:
            found += level
        return found

    assert total(np.arange(5.0)) == 10
