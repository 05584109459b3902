from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from openvla_toolkit.pipeline.convert import Job, convert
from openvla_toolkit.testing import DotsEpisodesConfig

Openvla = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def rlds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "dots"
    convert(Job(source=DotsEpisodesConfig(episodes=6), destination=folder, to="rlds", settings={}))
    return folder


def test_the_card_fits_eighty_columns_and_has_no_colour_in_a_file(openvla: Openvla, rlds: Path) -> None:
    code, out, _ = openvla("data", "inspect", str(rlds), "--workers", "1")
    lines = out.splitlines()
    assert code == 0
    assert lines[0] == "dots 1.0.0 · rlds · split train"
    assert "6 with 18 frames" in out
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in out
    assert "look after." in lines[-1]


def test_the_same_as_json(openvla: Openvla, rlds: Path) -> None:
    code, out, _ = openvla("data", "inspect", str(rlds), "--workers", "1", "--json")
    card = json.loads(out)
    assert code == 0
    assert (card["name"], card["version"], card["splits"]) == ("dots", "1.0.0", {"train": 6})
    assert (card["traced"], card["worn"]) == (6, [])


def test_transforms_are_followed(openvla: Openvla, rlds: Path) -> None:
    idle = "transforms=[{name: skip-idle, threshold: [1e9]}, {name: skip-idle, threshold: [0.0]}]"
    code, _, err = openvla("data", "inspect", str(rlds), "--workers", "1", "--read", idle)
    assert (code, "leave no frame" in err) == (1, True)
    idle = "transforms=[{name: skip-idle, threshold: [0.03]}]"
    code, out, _ = openvla("data", "inspect", str(rlds), "--workers", "1", "--json", "--read", idle)
    card = json.loads(out)
    (worn,) = card["worn"]
    assert worn["transform"] == {"name": "skip-idle", "threshold": [0.03]}
    assert (worn["frames"], worn["samples"]) == (0, card["frames"] - card["samples"])
    assert worn["samples"] > 0


def test_a_damaged_shard_is_a_concern_with_its_remedy(openvla: Openvla, rlds: Path, tmp_path: Path) -> None:
    copy = tmp_path / "dots" / "1.0.0"
    copy.mkdir(parents=True)
    for file in (rlds / "1.0.0").iterdir():
        content = bytearray(file.read_bytes())
        if "tfrecord" in file.name:
            content[len(content) // 2] ^= 255
        (copy / file.name).write_bytes(content)
    code, out, _ = openvla("data", "inspect", str(copy.parent), "--workers", "1")
    assert code == 0
    assert "! 1 episode cannot be read; number" in out
    assert "\n    on_error: skip\n" in out
    code, _, err = openvla("data", "inspect", str(copy.parent), "--workers", "1", "--read", "on_error=raise")
    assert code == 1
    assert "checksum" in err


def test_a_page_is_written(openvla: Openvla, rlds: Path, tmp_path: Path) -> None:
    page = tmp_path / "new" / "view.html"
    words = ["--output", str(page), "--episodes", "2", "--workers", "1"]
    code, out, _ = openvla("data", "view", str(rlds), *words)
    assert (code, out) == (0, f"{page}: 2 episodes, {page.stat().st_size / 1e6:.1f} MB\n")
    assert page.read_text().count('class="episode"') == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "absent"], "absent does not exist"),
        (["inspect", "dots", "--read", "split=val"], "val"),
        (["inspect", "."], ". is no data set; there are some inside: dots. Give one of them: dots."),
        (["inspect", "dots", "--read", "name=hdf5"], "dots: cameras: this key is required."),
        (["inspect", "dots", "--read", "split=3"], "dots: split: expected a valid string, not 3."),
        (["view", "dots"], "Missing option '--output'"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    openvla: Openvla, rlds: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(rlds.parent)
    code, _, err = openvla("data", *words)
    assert (code, len(err.splitlines())) == (2, 1)
    assert message in err
