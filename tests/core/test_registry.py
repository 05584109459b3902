from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic.functional_validators import BeforeValidator

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.errors import AmbiguousComponent, BrokenComponent, UnknownComponent
from openvla_toolkit.core.registry import (
    KINDS,
    available_components,
    by_name,
    distribution_name,
    find,
    installed,
    load,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Install = Callable[..., Path]

DATASET = """
from typing import ClassVar, Literal
from openvla_toolkit.core.component import ComponentConfig

class Config(ComponentConfig):
    kind: ClassVar[str] = "dataset"
    name: Literal["mine"] = "mine"
"""


def test_a_name_is_listed_without_import_and_loaded_on_demand(install: Install) -> None:
    install("openvla-mine", {"dataset": {"mine": "mine_module:Config"}}, modules={"mine_module": DATASET})
    assert [distribution_name(entry) for entry in find("dataset")["mine"]] == ["openvla-mine"]
    assert "mine_module" not in sys.modules
    assert load("dataset", "mine").model_fields["name"].default == "mine"


def test_an_unknown_name_suggests_the_nearest(toys: Path) -> None:
    with pytest.raises(UnknownComponent, match=r"no policy named 'toy-polcy'\. Did you mean 'toy-policy'\?"):
        load("policy", "toy-polcy")


def test_a_name_of_two_packages_is_an_error_only_when_it_is_used(install: Install) -> None:
    for package, module in (("openvla-a", "module_a"), ("openvla-b", "module_b")):
        groups = {"dataset": {"mine": f"{module}:Config"}, "engine": {package: f"{module}:Config"}}
        install(package, groups, modules={module: DATASET})
    assert "openvla-a" in find("engine")
    with pytest.raises(AmbiguousComponent, match="openvla-a, openvla-b"):
        load("dataset", "mine")


def test_a_package_that_lies_on_the_path_twice_counts_once(
    install: Install, tmp_path: Path, monkeypatch: Any
) -> None:
    site = install(
        "openvla-mine", {"dataset": {"mine": "mine_module:Config"}}, modules={"mine_module": DATASET}
    )
    twin = tmp_path / "twin"
    twin.symlink_to(site)
    monkeypatch.syspath_prepend(str(twin))
    assert load("dataset", "mine").kind == "dataset"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nosuchlib.inner", r"it needs nosuchlib, which is not installed: pip install nosuchlib\."),
        (
            "import broken_module.absent",
            r"its module broken_module.absent does not exist: reinstall openvla-broken\.",
        ),
        ("raise SystemExit(3)", r"importing broken_module ends the program \(exit code 3\)\."),
        ("1 / 0", r"importing broken_module fails with ZeroDivisionError: division by zero\."),
        ("x = 1", r"importing broken_module fails with AttributeError"),
        ("Config = 1", r"broken_module:Config is not a subclass of ComponentConfig\."),
        (
            DATASET.replace('"dataset"', '"engine"'),
            r"has kind 'engine', but is registered .* kind 'dataset'\.",
        ),
        (DATASET.replace("mine", "yours"), r"has name 'yours' as its default, but is registered as 'mine'\."),
    ],
)
def test_a_broken_package_is_named_with_the_cause(install: Install, code: str, reason: str) -> None:
    install("openvla-broken", {"dataset": {"mine": "broken_module:Config"}}, modules={"broken_module": code})
    with pytest.raises(
        BrokenComponent, match=rf"^dataset 'mine' from openvla-broken cannot be used: .*{reason}"
    ):
        load("dataset", "mine")


@pytest.mark.parametrize(
    ("variable", "value", "seen"),
    [
        ("OPENVLA_PLUGINS", "", {"toy-episodes"}),
        ("OPENVLA_PLUGINS", "OpenVLA_Mine", {"toy-episodes", "mine"}),
        ("OPENVLA_PLUGINS", "other , openvla.mine", {"toy-episodes", "mine"}),
        ("OPENVLA_PLUGINS", "other", {"toy-episodes"}),
        ("OPENVLA_DISABLE_PLUGINS", "openvla_mine,openvla-toolkit", {"toy-episodes"}),
        ("OPENVLA_DISABLE_PLUGINS", "", {"toy-episodes", "mine"}),
    ],
)
def test_the_environment_limits_what_is_seen_and_children_see_the_same(
    toys: Path, install: Install, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, seen: set[str]
) -> None:
    install("openvla-mine", {"dataset": {"mine": "mine_module:Config"}}, modules={"mine_module": DATASET})
    monkeypatch.setenv(variable, value)
    assert {"toy-episodes", "mine"} & set(find("dataset")) == seen
    code = "from openvla_toolkit.core.registry import find; print(*find('dataset'))"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"toy-episodes", "mine"} & set(child.stdout.split()) == seen


def test_available_components_gives_the_distribution_of_each_name(toys: Path) -> None:
    everything = available_components()
    assert tuple(everything) == KINDS
    assert everything["policy"]["toy-policy"] == "openvla-toolkit"
    assert available_components("engine") == {"engine": everything["engine"]}
    assert find("no-such-kind") == {}


def test_installed_lasts_for_one_block(toys: Path) -> None:
    load("dataset", "toy-episodes")
    with installed("embodiment", "toy-episodes", "toy_parts:DatasetConfig"):
        with pytest.raises(BrokenComponent, match="this session"):
            load("embodiment", "toy-episodes")
    assert "toy-episodes" not in find("embodiment")


class TestByName:
    adapter: TypeAdapter[Any]

    @pytest.fixture(autouse=True)
    def _adapter(self, toys: Path) -> None:
        self.adapter = TypeAdapter(Annotated[ComponentConfig, BeforeValidator(by_name("policy"))])

    def test_text_mapping_and_object_give_the_same_config(self) -> None:
        config = self.adapter.validate_python("toy-policy")
        assert self.adapter.validate_python({"name": "toy-policy"}) == config
        assert self.adapter.validate_python(config) is config

    def test_errors_inside_keep_their_address(self) -> None:
        with pytest.raises(ValidationError) as caught:
            self.adapter.validate_python(
                {"name": "toy-policy", "lora": {"rank": 0}, "code": {"name": "toy-code", "x": 1}}
            )
        assert [error["loc"] for error in caught.value.errors()] == [("lora", "rank"), ("code", "x")]

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (5, "expected the name of a policy, or a mapping with 'name', not 5."),
            ({"size": 3}, "a policy needs a 'name'."),
            ("toy-polic", "no policy named 'toy-polic'. Did you mean 'toy-policy'?"),
        ],
    )
    def test_anything_else_is_a_validation_error(self, value: object, message: str) -> None:
        with pytest.raises(ValidationError) as caught:
            self.adapter.validate_python(value)
        assert caught.value.errors()[0]["msg"].startswith(message)

    def test_a_config_of_another_kind_is_refused(self) -> None:
        engine = load("engine", "single")()  # type: ignore[call-arg]  # its name has a default
        with pytest.raises(ValidationError, match="EngineConfig is of kind engine; a policy is expected"):
            self.adapter.validate_python(engine)

    def test_a_mapping_without_name_takes_the_default(self) -> None:
        assert by_name("engine", default="single")({"precision": "bf16"}) == load("engine", "single")(
            precision="bf16"
        )  # type: ignore[call-arg]
