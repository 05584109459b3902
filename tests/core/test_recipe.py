from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from openvla_toolkit.core.errors import MissingFile, OpenVLAError, RecipeError, RecipeErrors
from openvla_toolkit.core.recipe import DEFAULT_OBSERVERS, ObserverByName, Recipe
from openvla_toolkit.core.registry import load

GOOD = """\
version: 1
output: runs/toy
policy: {name: toy-policy, lora: {rank: 4}}
data:
  - {name: toy-episodes, root: /data}
train:
  optimizer: {name: adamw, lr: 5e-4}
  steps: 100
  batch: {total: 8, per_device: 4}
evaluate:
  - toy-score
"""

pytestmark = pytest.mark.usefixtures("toys", "alone")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.yaml"
    path.write_text(GOOD)
    return path


def written(folder: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def complaints(path: Path | str, *overrides: str) -> list[str]:
    with pytest.raises(OpenVLAError) as caught:
        Recipe.load(path, overrides)
    return str(caught.value).replace(f"{Path(path).parent}/", "").splitlines()


def test_a_recipe_is_read_with_its_defaults(good: Path) -> None:
    recipe = Recipe.load(good)
    assert recipe.seed == 7
    assert recipe.output == Path("runs/toy")
    assert recipe.source == good
    assert recipe.stages == ("prepare", "train", "evaluate")
    assert recipe.train is not None
    assert recipe.train.optimizer.lr == 5e-4
    assert recipe.train.engine.name == "single"
    assert recipe.train.schedule.name == "constant"
    assert [one.name for one in recipe.observers] == list(DEFAULT_OBSERVERS)


def test_to_yaml_fills_the_defaults_and_reads_back_equal(good: Path, tmp_path: Path) -> None:
    recipe = Recipe.load(good, ["observers=[]", "train.schedule=cosine"])
    again = Recipe.load(written(tmp_path, recipe.to_yaml()))
    assert again == recipe
    data = yaml.safe_load(recipe.to_yaml())
    assert data["policy"]["code"] == {"name": "toy-code", "bins": 256}
    shuffle = {"name": "global", "block": 1024, "window": 64}
    assert data["train"]["loader"] == {"workers": 0, "prefetch": 2, "shuffle": shuffle}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lr=st.floats(1e-12, 1e6),
    steps=st.integers(1, 10**9),
    total=st.integers(1, 10**6),
    clip=st.none() | st.floats(1e-6, 1e6),
)
def test_numbers_survive_the_round_trip(lr: float, steps: int, total: int, clip: float | None) -> None:
    train = {"optimizer": {"lr": lr}, "steps": steps, "batch": {"total": total}, "clip_norm": clip}
    recipe = Recipe.from_mapping({"output": "out", "train": train, "observers": []})
    assert Recipe.from_mapping(yaml.safe_load(recipe.to_yaml())) == recipe


def test_default_observers_that_are_not_installed_fail_only_when_built() -> None:
    observer = Recipe.from_mapping({"output": "out"}).observers[0]
    assert isinstance(observer, ObserverByName)
    with pytest.raises(OpenVLAError, match="no observer named 'console'"):
        observer.build()


def test_python_users_may_pass_config_objects(tmp_path: Path) -> None:
    dataset = load("dataset", "toy-episodes")(root=tmp_path)  # type: ignore[call-arg]
    mapping: dict[str, Any] = {"output": "out", "data": [dataset]}
    recipe = Recipe.from_mapping(mapping, ["data.1={name: toy-episodes, root: /b}"])
    assert recipe.data[0] is dataset
    assert recipe.data[1].root == Path("/b")  # type: ignore[attr-defined]
    assert mapping["data"] == [dataset]


def test_every_mistake_is_listed_with_line_path_and_suggestion(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """\
seed: x
outptu: runs/toy
policy: {name: toy-policy, lora: {rankk: 4}, code: toy-cod, size: [1]}
data:
  - name: toy-episodes
    camra: front
    gripper_open: hihg
train:
  engine: {name: single, precision: b16}
  optimizer: adam
  schedule: {name: linea}
  steps: 0
  batch: {total: 64, per_device: 15}
evaluate: toy-score
export:
  - onnx
""",
    )
    with pytest.raises(RecipeErrors) as caught:
        Recipe.load(path)
    assert len(caught.value.errors) == 17
    assert str(caught.value).replace(f"{tmp_path}/", "").splitlines() == [
        "recipe.yaml:1: seed: expected a valid integer, unable to parse string as an integer, not 'x'.",
        "recipe.yaml:1: output: this key is required.",
        "recipe.yaml:2: outptu: unknown key. Did you mean 'output'?",
        "recipe.yaml:3: policy.lora.rankk: unknown key. Did you mean 'rank'?",
        "recipe.yaml:3: policy.size: expected a valid integer, not [1]."
        " Or: expected a valid string, not [1].",
        "recipe.yaml:3: policy.code: no action_tokenizer named 'toy-cod'. Did you mean 'toy-code'?"
        " Installed: toy-code.",
        "recipe.yaml:5: data.0.root: this key is required.",
        "recipe.yaml:6: data.0.camra: unknown key. Did you mean 'camera'?",
        "recipe.yaml:7: data.0.gripper_open: expected 'high' or 'low', not 'hihg'. Did you mean 'high'?",
        "recipe.yaml:9: train.engine.precision: expected 'fp32' or 'bf16', not 'b16'. Did you mean 'bf16'?",
        "recipe.yaml:10: train.optimizer: expected 'adamw', not 'adam'. Did you mean 'adamw'?",
        "recipe.yaml:10: train.optimizer.lr: this key is required.",
        "recipe.yaml:11: train.schedule.name: expected 'constant', 'linear', 'cosine' or 'wsd', not 'linea'."
        " Did you mean 'linear'?",
        "recipe.yaml:12: train.steps: expected a number greater than 0, not 0.",
        "recipe.yaml:13: train.batch: total (64) must be a multiple of per_device (15).",
        "recipe.yaml:14: evaluate: expected a valid list, not 'toy-score'.",
        "recipe.yaml:16: export.0: no exporter named 'onnx'. Installed: none.",
    ]


def test_one_mistake_is_one_recipe_error(good: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.load(good, ["policy.lora.rank=0"])
    assert not isinstance(caught.value, RecipeErrors)
    assert (caught.value.file, caught.value.line, caught.value.path) == (
        "command line",
        None,
        "policy.lora.rank",
    )


@pytest.mark.parametrize(
    ("schedule", "valid"),
    [("{name: wsd, decay: 5}", True), ("wsd", False), ("{name: cosine, decay: 5}", False), ("cosine", True)],
)
def test_decay_belongs_to_wsd(good: Path, schedule: str, *, valid: bool) -> None:
    if valid:
        assert Recipe.load(good, [f"train.schedule={schedule}"]).train is not None
    else:
        assert complaints(good, f"train.schedule={schedule}")[0].startswith(
            "command line: train.schedule: 'decay' is"
        )


class TestOverrides:
    def test_values_are_yaml_and_paths_reach_lists(self, good: Path) -> None:
        recipe = Recipe.load(
            good,
            ["--train.optimizer.lr=1e-3", "data.0.root=/x", "train.clip_norm=null", "evaluate=[]", "seed=3"],
        )
        assert recipe.train is not None
        assert recipe.train.optimizer.lr == 1e-3
        assert recipe.train.clip_norm is None
        assert recipe.data[0].root == Path("/x")  # type: ignore[attr-defined]
        assert recipe.evaluate == []
        assert recipe.seed == 3

    def test_a_bare_name_and_a_missing_section_open_up(self, good: Path) -> None:
        recipe = Recipe.load(
            good, ["train.engine.precision=bf16", "benchmark.repeats=3", "policy.code=toy-code"]
        )
        assert recipe.train is not None
        assert recipe.train.engine.precision == "bf16"  # type: ignore[attr-defined]
        assert recipe.benchmark is not None
        assert recipe.benchmark.repeats == 3

    def test_appending_right_after_the_last_item(self, good: Path) -> None:
        recipe = Recipe.load(
            good, ["data.1={name: toy-episodes, root: /y}", "data.1.camera=wrist", "evaluate.1=toy-score"]
        )
        assert recipe.data[1].camera == "wrist"  # type: ignore[attr-defined]
        assert len(recipe.evaluate) == 2

    @pytest.mark.parametrize(
        ("override", "complaint"),
        [
            ("trian.steps=5", "command line: trian: unknown key. Did you mean 'train'?"),
            ("train.stpes=5", "command line: train.stpes: unknown key. Did you mean 'steps'?"),
            ("data.2.root=/x", "command line: data.2: there is no item 2; the list has 1."),
            ("data.1.root=/x", "command line: data.1: there is no item 1; to append one, give it whole: "),
            ("data.1=5", "command line: data.1: what is appended must be a name or a mapping: "),
            ("data.first=5", "command line: data: this is a list, so a number is expected, not 'first'."),
            ("seed.x=5", "command line: seed: expected a valid integer, not {'x': 5}."),
            ("version.x=5", "command line: version: this is 1, which has no 'x' in it."),
            ("policy.name=toy-polcy", "command line: policy.name: no policy named"),
            ("train.steps", "command line: 'train.steps' is not of the form key.path=value."),
            ("train..steps=5", "command line: 'train..steps=5' is not of the form key.path=value."),
            ("=5", "command line: '=5' is not of the form key.path=value."),
            ("train.steps=[1", "command line: train.steps: is not YAML: "),
        ],
    )
    def test_mistakes_name_the_command_line(self, good: Path, override: str, complaint: str) -> None:
        assert complaints(good, override)[0].startswith(complaint)


class TestExtends:
    def test_mappings_merge_and_lists_are_replaced(self, good: Path, tmp_path: Path) -> None:
        path = written(tmp_path, "extends: good.yaml\ntrain: {steps: 5, engine: single}\nevaluate: []\n")
        recipe = Recipe.load(path)
        assert recipe.train is not None
        assert (recipe.train.steps, recipe.train.batch.total) == (5, 8)
        assert recipe.evaluate == []
        assert recipe.output == Path("runs/toy")

    def test_errors_point_to_the_file_where_the_value_stands(self, good: Path, tmp_path: Path) -> None:
        good.write_text(GOOD.replace("steps: 100", "steps: ten"))
        path = written(tmp_path, "extends: good.yaml\n\npolicy: {lora: {rank: -1}}\n")
        assert complaints(path) == [
            "good.yaml:8: train.steps: expected a valid integer, unable to parse string as an integer,"
            " not 'ten'.",
            "recipe.yaml:3: policy.lora.rank: expected a number greater than 0, not -1.",
        ]

    def test_a_new_name_keeps_the_old_settings_and_says_so(self, good: Path, tmp_path: Path) -> None:
        good.write_text(
            GOOD.replace(
                "batch: {total: 8, per_device: 4}", "batch: {total: 8}\n  engine: {name: x, zero: 3}"
            )
        )
        path = written(tmp_path, "extends: good.yaml\ntrain: {engine: {name: single}}\n")
        assert complaints(path) == [
            "good.yaml:10: train.engine.zero: unknown key. Known here: name, precision."
        ]

    def test_only_one_level(self, good: Path, tmp_path: Path) -> None:
        written(tmp_path, "extends: good.yaml\n", "middle.yaml")
        path = written(tmp_path, "extends: middle.yaml\n")
        assert complaints(path)[0].startswith("middle.yaml:1: extends: ")

    def test_a_missing_or_wrong_base_is_named(self, good: Path, tmp_path: Path) -> None:
        missing = complaints(written(tmp_path, "output: x\nextends: goood.yaml\n"))[0]
        assert missing.startswith(
            "recipe.yaml:2: extends: there is no recipe goood.yaml. Did you mean 'good.yaml'?"
        )
        assert complaints(written(tmp_path, "extends: [a]\n"))[0].startswith(
            "recipe.yaml:1: extends: expected the name"
        )


class TestSources:
    def test_a_missing_file_suggests_the_nearest(self, good: Path) -> None:
        assert complaints(good.with_name("god.yaml")) == [
            "there is no recipe god.yaml. Did you mean 'good.yaml'?"
        ]

    def test_a_folder_is_not_a_recipe(self, tmp_path: Path) -> None:
        with pytest.raises(MissingFile, match="is a folder; a recipe is a YAML file"):
            Recipe.load(tmp_path)

    def test_a_package_may_hold_recipes(self, install: Any) -> None:
        site = install("openvla-mine", {})
        folder = site / "mine_package" / "recipes"
        folder.mkdir(parents=True)
        (site / "mine_package" / "__init__.py").touch()
        (folder / "x.yaml").write_text(GOOD)
        recipe = Recipe.load("mine_package:recipes/x.yaml", ["seed=9"])
        assert recipe.seed == 9
        assert recipe.source is None
        with pytest.raises(MissingFile, match=r"the package mine_package holds no recipe recipes/y\.yaml"):
            Recipe.load("mine_package:recipes/y.yaml")
        with pytest.raises(MissingFile, match="there is no package nowhere_at_all"):
            Recipe.load("nowhere_at_all:recipes/x.yaml")

    @pytest.mark.parametrize("text", [b"", b"- 1\n", b"\x89PNG\r\n", b"a: [\n"])
    def test_what_is_no_recipe_is_a_recipe_error(self, tmp_path: Path, text: bytes) -> None:
        path = tmp_path / "recipe.yaml"
        path.write_bytes(text)
        with pytest.raises(RecipeError, match=r"recipe\.yaml:\d"):
            Recipe.load(path)
