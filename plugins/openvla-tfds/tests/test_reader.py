"""The plugin keeps to the interface, and says what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openvla_tfds import TFDSConfig
from openvla_tfds import reader as reading
from toy_builders import READ

from openvla_toolkit.cli import main
from openvla_toolkit.core.errors import DataError, MissingDependency, MissingFile, RecipeError
from openvla_toolkit.core.registry import load
from openvla_toolkit.interfaces.dataset import ReadsAhead
from openvla_toolkit.testing import check_dataset

RLDS: Any = load("dataset", "rlds")


def config(root: Path, **settings: Any) -> TFDSConfig:
    return TFDSConfig.model_validate({"root": str(root), "dataset": "toy_arms", **READ, **settings})


def test_it_keeps_to_the_interface(root: Path) -> None:
    check_dataset(config(root, split="all"))


def test_it_is_found_by_name(root: Path) -> None:
    from openvla_toolkit import Recipe

    settings = {"name": "tfds", "root": str(root), "dataset": "toy_arms", **READ}
    recipe = Recipe.from_mapping({"output": "runs/x", "data": [settings], "observers": []})
    assert recipe.data == [config(root)]


@pytest.mark.parametrize("place", ["", "toy_arms", "toy_arms/1.2.0"])
def test_the_folder_may_be_any_of_three(root: Path, place: str) -> None:
    assert len(config(root / place).build()) == 5


def test_it_is_converted(root: Path, tmp_path: Path) -> None:
    words = ["data", "convert", str(root), str(tmp_path / "copy"), "--to", "rlds", "--workers", "1"]
    read = {"name": "tfds", "dataset": "toy_arms", **READ}
    settings = [word for key, value in read.items() for word in ("--read", f"{key}={json.dumps(value)}")]
    with pytest.raises(SystemExit) as ended:
        main([*words, *settings])
    assert not ended.value.code
    source, copy = config(root).build(), RLDS(root=tmp_path / "copy", dataset="copy").build()
    for position in range(len(source)):
        np.testing.assert_array_equal(copy[position].actions, source[position].actions)
        pictures = [copy.image(address) for address in copy[position].images["primary"]]
        assert pictures == [source.image(address) for address in source[position].images["primary"]]


def test_a_builder_that_was_never_run_is_run(tmp_path: Path) -> None:
    unprepared = config(tmp_path)
    unprepared.prepare()
    assert len(unprepared.build()) == 5
    unprepared.prepare()


def test_episodes_in_order_are_read_from_one_stream(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    data = config(root).build()
    stream = data._stream

    def counted(builder: Any, part: Any) -> Iterator[Any]:
        opened.append(part)
        return stream(builder, part)

    monkeypatch.setattr(data, "_stream", counted)
    for position in range(5):
        data.image(data[position].images["wrist"][-1])
    assert len(opened) == 1


def test_a_block_is_read_in_the_order_of_its_episodes(root: Path) -> None:
    data = config(root).build()
    addresses = np.concatenate([data[position].images["wrist"] for position in (3, 0, 4)])[::-1]
    opened = config(root).build()
    assert isinstance(opened, ReadsAhead)
    assert opened.ahead(addresses) == [data.image(address) for address in addresses]
    assert list(opened._kept) == [0, 3, 4]
    assert [len(picture) for picture in opened.ahead(addresses)] == addresses["length"].tolist()


def test_only_so_many_episodes_are_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "EPISODES_KEPT", 2)
    data = config(root).build()
    for position in range(5):
        data[position]
    assert list(data._kept) == [3, 4]
    data[3]
    data[0]
    assert list(data._kept) == [3, 0]


def test_the_fingerprint_follows_content_and_settings(root: Path) -> None:
    first = config(root).build().describe().fingerprint
    assert config(root).build().describe().fingerprint == first
    assert config(root, split="train[:4]").build().describe().fingerprint != first
    assert config(root, state=[]).build().describe().fingerprint != first
    (shard, *_) = sorted((root / "toy_arms").glob("*/*train*00000*"))
    before = shard.stat()
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert config(root).build().describe().fingerprint != first
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_what_does_not_exist_is_named(root: Path) -> None:
    with pytest.raises(MissingFile, match=r"knows no builder 'no_arms' and finds no such data set in .*root"):
        config(root, dataset="no_arms").build()
    with pytest.raises(RecipeError, match=r"'test'.*train \(5 episodes\), val \(40 episodes\)"):
        config(root, split="test").build()
    with pytest.raises(RecipeError, match=r"selects no episode.*train \(5 episodes\)"):
        config(root, split="train[5:]").build()
    with pytest.raises(RecipeError, match=r"there is no 'hands'"):
        config(root, action="hands").build()[0]
    with pytest.raises(MissingFile, match=r"toy_arms.*download or prepare"):
        config(root / "absent").build()


@pytest.fixture
def damaged(root: Path) -> Iterator[Path]:
    """Truncate the middle shard of the training episodes for the time of a test."""
    shard = sorted((root / "toy_arms").glob("*/*train*"))[1]
    whole = shard.read_bytes()
    shard.write_bytes(whole[:-10])
    yield shard
    shard.write_bytes(whole)


def test_a_damaged_file_names_the_episode(root: Path, damaged: Path) -> None:
    data = config(root).build()
    with pytest.raises(DataError, match=r"train:\d.*TensorFlow cannot read it.*download the data set again"):
        [data[position] for position in range(5)]


def test_dlimp_is_asked_for_when_it_is_missing(root: Path) -> None:
    with pytest.raises(MissingDependency, match=r"'via: dlimp' needs dlimp"):
        config(root, via="dlimp").build()


def test_listing_it_needs_no_tensorflow() -> None:
    code = "import sys, openvla_tfds; print('tensorflow' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("missing", ["tensorflow", "tensorflow_datasets"])
def test_a_missing_package_is_named_with_what_brings_it(root: Path, missing: str) -> None:
    code = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"from openvla_tfds import TFDSConfig\nTFDSConfig(root={str(root)!r}, dataset='toy_arms').build()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingDependency" in done.stderr
    assert "openvla-tfds[cpu]" in done.stderr
