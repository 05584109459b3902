"""The data of another kit: one RLDS data set under another name, in other shards, with other units of action.

Actions are four times as large, which changes every statistic by a factor of four and no normalised number;
the last number is the gripper, which stays.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from openvla_toolkit.datasets import RLDSConfig
from openvla_toolkit.datasets.rlds.features import load_features
from openvla_toolkit.datasets.rlds.writer import RLDSWriter

OLD, NEW = "libero_spatial_no_noops", "libero_object_no_noops"
"""Sets of one standardisation, so that the catalog reads both alike."""
FACTOR = np.float32(4)


def mutate_data(kit: Path, target: Path) -> None:
    """Write data sets, trajectories, mixtures and standardisations of the changed kit."""
    _other_data(kit / "rlds" / "data", target / "rlds" / "data")
    expected = target / "rlds" / "expected"
    expected.mkdir(parents=True)
    size = _fewer_trajectories(kit / "rlds" / "expected", expected)
    _other_statistics(kit / "rlds" / "expected", expected)
    _other_mixtures(kit / "rlds" / "expected", expected, size=size)
    _fewer_standardizations(kit / "oxe_transforms", target / "oxe_transforms")


def _other_data(old: Path, new: Path) -> None:
    source = RLDSConfig(root=old, dataset=OLD).build()
    features = load_features(source._folder / "features.json")
    with RLDSWriter(new, dataset=NEW, features=features, version="2.0.0", shard_bytes=60_000) as writer:
        for position in range(len(source)):
            episode = source.trajectory(position)
            metadata = _first(episode.pop("traj_metadata", {}))
            episode["action"] = np.concatenate(
                [episode["action"][:, :6] * FACTOR, episode["action"][:, 6:]], 1
            )
            for key, values in episode["observation"].items():
                if values.dtype.names is not None:
                    episode["observation"][key] = [source.image(address) for address in values]
            writer.write({"steps": episode, **metadata})


def _first(values: Any) -> Any:
    """Return of values that are repeated at every step one each."""
    return {key: _first(one) for key, one in values.items()} if isinstance(values, dict) else values[0]


def _fewer_trajectories(old: Path, new: Path) -> int:
    """Keep every other group of cases of the set, under another tag; return the frames of the set."""
    cases = [case for case in _read(old / "trajectories.json") if case["dataset"] == OLD][::2]
    with np.load(old / "trajectories.npz") as arrays:
        renamed = {}
        for number, case in enumerate(cases):
            tag, case["tag"], case["dataset"] = case["tag"], f"mine-{number}", NEW
            _replace_texts(case)
            for name in arrays.files:
                if name.startswith(f"{tag}/"):
                    renamed[f"mine-{number}/{name.removeprefix(f'{tag}/')}"] = arrays[name]
    np.savez(new / "trajectories.npz", **renamed)
    _write(new / "trajectories.json", cases)
    whole = next(case for case in cases if case.get("train") and not case.get("traj_transform_kwargs"))
    return sum(trajectory["length"] for trajectory in whole["trajectories"])


def _replace_texts(case: dict[str, Any]) -> None:
    for trajectory in case.get("trajectories", ()):
        trajectory["arrays"]["dataset_name"]["all"] = NEW


def _other_mixtures(old: Path, new: Path, *, size: int) -> None:
    recorded = _read(old / "mixtures.json")
    shapes = {key: recorded["mixtures"][0][key] for key in ("element_spec", "first_sample_shapes")}
    mixture = {
        "mixture_spec": [[NEW, 1.0], [NEW, 5.0]],
        "balance_weights": True,
        "datasets_after_dedup": [NEW],
        "weights_after_dedup": [1.0],
        "sample_weights": [1.0],
        "dataset_length": size,
        "dataset_sizes": {NEW: size},
        "empirical_counts": {NEW: 7},
        **shapes,
    }
    named = {name: entries for name, entries in recorded["named_mixtures"].items() if len(entries) == 1}
    _write(new / "mixtures.json", {"mixtures": [mixture], "named_mixtures": named})


def _other_statistics(old: Path, new: Path) -> None:
    cases = {
        f"{NEW}/{case.partition('/')[2]}": {form: _scaled(entry) for form, entry in forms.items()}
        for case, forms in _read(old / "dataset_statistics.json").items()
        if case.startswith(f"{OLD}/")
    }
    _write(new / "dataset_statistics.json", cases)
    folder = new / "saved_by_save_dataset_statistics"
    folder.mkdir()
    _write(folder / "dataset_statistics.json", {NEW: next(iter(cases.values()))["returned_with_mask"]})


def _scaled(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the statistics of actions that are four times as large."""
    action = {
        figure: values if figure == "mask" else [*(float(FACTOR) * one for one in values[:6]), *values[6:]]
        for figure, values in entry["action"].items()
    }
    return {**entry, "action": action}


def _fewer_standardizations(old: Path, new: Path) -> None:
    shutil.copytree(old, new)
    content = _read(old / "cases.json")

    def some(key: str, step: int) -> None:
        content[key] = {name: content[key][name] for name in list(content[key])[::step]}

    some("transforms", 7)
    some("primitives", 3)
    some("dataset_configs", 9)
    content["droid_zero_action_filter"] = content["droid_zero_action_filter"][1:]
    kept = {*content["transforms"], "droid_wristact", "norm", "droid", "quat_xyzw", "euler_from_quaternion"}
    with np.load(old / "arrays.npz") as arrays:
        np.savez(
            new / "arrays.npz",
            **{name: arrays[name] for name in arrays.files if name.partition("/")[0] in kept},
        )
    for entry in content["transforms"].values():
        entry["function_shared_with"] = []
    _write(new / "cases.json", content)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
