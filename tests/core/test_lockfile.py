from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from openvla_toolkit.core.errors import StorageError
from openvla_toolkit.core.lockfile import components_of, write_lock
from openvla_toolkit.core.recipe import Recipe

pytestmark = pytest.mark.usefixtures("toys", "alone")

RECIPE = {
    "output": "runs/toy",
    "policy": "toy-policy",
    "data": [{"name": "toy-episodes", "root": "/data"}, {"name": "toy-episodes", "root": "/more"}],
    "train": {"optimizer": {"lr": 0.1}, "steps": 3, "batch": {"total": 2}},
    "observers": [],
}


def test_the_lock_is_a_recipe_with_a_record(tmp_path: Path) -> None:
    recipe = Recipe.from_mapping(RECIPE)
    path = write_lock(recipe, tmp_path / "new")
    assert path == tmp_path / "new" / "recipe.lock.yaml"
    assert Recipe.load(path) == recipe
    lock = yaml.safe_load(path.read_text())["lock"]
    assert {"date", "python", "platform", "cpu", "gpus", "packages", "components"} <= set(lock)
    assert lock["packages"]["openvla-toolkit"] == "1.2.3"
    assert lock["cpu"]["count"] >= 1
    assert lock["components"] == [
        {"kind": kind, "name": name, "package": "openvla-toolkit"}
        for kind, name in [
            ("policy", "toy-policy"),
            ("action_tokenizer", "toy-code"),
            ("dataset", "toy-episodes"),
            ("executor", "processes"),
            ("engine", "single"),
        ]
    ]


def test_a_lock_may_be_extended(tmp_path: Path) -> None:
    write_lock(Recipe.from_mapping(RECIPE), tmp_path)
    child = tmp_path / "again.yaml"
    child.write_text("extends: recipe.lock.yaml\nseed: 8\n")
    assert Recipe.load(child).seed == 8


def test_the_commit_of_the_recipes_folder_is_recorded(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.com"]
        command = ["git", "-C", str(tmp_path), *identity, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE))
    git("init")
    git("add", "recipe.yaml")
    git("commit", "-m", "x")
    lock = yaml.safe_load(write_lock(Recipe.load(path), tmp_path / "out").read_text())["lock"]
    assert lock["git_commit"] == git("rev-parse", "HEAD")
    path.write_text(path.read_text() + "seed: 8\n")
    lock = yaml.safe_load(write_lock(Recipe.load(path), tmp_path / "out").read_text())["lock"]
    assert lock["git_commit"].endswith("+")


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*file"):
        write_lock(Recipe.from_mapping(RECIPE), tmp_path / "file")


def test_components_are_found_however_deep() -> None:
    names = [one.name for one in components_of(Recipe.from_mapping(RECIPE))]
    assert names == ["toy-policy", "toy-code", "toy-episodes", "toy-episodes", "processes", "single"]
