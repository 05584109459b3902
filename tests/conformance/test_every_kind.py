"""Nothing of the kit is overlooked: every kind of case is compared here or waits for named work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import kinds, kit

FOLDER = Path(__file__).parent


def test_every_kind_has_one_home() -> None:
    found = {kind: kinds.homes(kind) for kind in kinds.kinds(kit.root())}
    assert found, "the kit is empty."
    strange = {kind: homes for kind, homes in found.items() if len(homes) != 1}
    assert not strange, f"in neither table, or in both ({kinds.__file__}): {strange}"


def test_a_stranger_has_none(tmp_path: Path) -> None:
    (tmp_path / "model" / "one").mkdir(parents=True)
    (tmp_path / "model" / "one" / "hf_outputs.json").write_text('{"cases": [{"task": "lift"}], "poems": []}')
    (tmp_path / "songs.txt").write_text("la")
    found = list(kinds.kinds(tmp_path))
    assert found[1:] == ["model/one/hf_outputs.json: poems", "songs.txt"]
    assert [len(kinds.homes(kind)) for kind in found] == [1, 0, 0]


@pytest.mark.parametrize("module", sorted(set(kinds.COVERED.values())))
def test_what_is_called_covered_has_its_module(module: str) -> None:
    assert (FOLDER / module).is_file()
