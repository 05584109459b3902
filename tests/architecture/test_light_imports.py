"""Help, listing and checking must not wait for torch: nothing heavy is imported before a run starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "openvla_toolkit"
HEAVY = [
    *("torch", "torchvision", "numpy", "transformers", "tokenizers", "timm", "peft", "PIL", "gymnasium"),
    "numba",
]
REPORT = f"\nimport sys; print('HEAVY', *sorted(set({HEAVY}) & set(sys.modules)))"
VERB = """
from openvla_toolkit.cli import main
try:
    main({words})
except SystemExit as done:
    assert done.code == 0, done.code
"""
LOAD_ALL = """
from openvla_toolkit.core.registry import KINDS, find, load
for kind in KINDS:
    for name in find(kind):
        load(kind, name)
"""
PYDANTIC_FREE = "import openvla_toolkit.core.registry, openvla_toolkit.cli.plugins, openvla_toolkit.cli.verbs"
RECIPE = "output: x\npolicy: toy-policy\ndata: [{name: toy-episodes, root: /data}]\nobservers: []\n"


def heavy_after(code: str) -> list[str]:
    """Run code in a fresh interpreter; return the heavy packages that it imported."""
    done = subprocess.run([sys.executable, "-c", code + REPORT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def modules(folder: str) -> list[str]:
    """Name the modules of one folder of the package."""
    return sorted(f"openvla_toolkit.{folder}.{path.stem}" for path in (PACKAGE / folder).glob("[!_]*.py"))


def test_the_probe_sees_what_is_heavy() -> None:
    assert heavy_after("import numpy") == ["numpy"]


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["plugins"], ["plugins", "--json"], ["run", "--help"]]
)
def test_the_light_verbs_import_nothing_heavy(words: list[str]) -> None:
    assert heavy_after(VERB.format(words=words)) == []


@pytest.mark.parametrize("words", [["check"], ["show"], ["run", "--dry-run"]])
def test_reading_a_recipe_imports_nothing_heavy(toys: Path, tmp_path: Path, words: list[str]) -> None:
    recipe = tmp_path / "toy.yaml"
    recipe.write_text(RECIPE)
    assert heavy_after(VERB.format(words=[*words, str(recipe)])) == []


def test_the_settings_of_every_built_in_component_are_light(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVLA_PLUGINS", "")
    assert heavy_after(LOAD_ALL) == []


def test_packages_interfaces_and_verbs_are_light() -> None:
    packages = sorted(
        ".".join(path.parent.relative_to(PACKAGE.parent).parts) for path in PACKAGE.rglob("__init__.py")
    )
    packages = [name for name in packages if "templates" not in name]
    assert "openvla_toolkit.core" in packages
    names = [*packages, *modules("interfaces"), *modules("cli")]
    assert heavy_after("import " + ", ".join(names)) == []


def test_listing_does_without_pydantic() -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{PYDANTIC_FREE}; import sys; print('pydantic' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"
