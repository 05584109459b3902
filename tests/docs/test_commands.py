"""Every command and every Python block of README and documentation runs and prints what the page says."""

from __future__ import annotations

import shutil
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.docs.walkthrough import Walk, is_walkable

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if is_walkable(path.read_text())
]
PROGRAMS = {"openvla": "openvla_toolkit", "pip": "pip", "pytest": "pytest"}


@pytest.fixture
def reader(tmp_path: Path) -> Walk:
    """Give a reader the recipes and an environment to install into, which sees all that is installed here."""
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    library = sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)})
    installed = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    lines = [f"import site; site.addsitedir({path!r})" for path in dict.fromkeys(installed)]
    (Path(library) / "installed_here.pth").write_text("\n".join(lines) + "\n")
    for program, module in PROGRAMS.items():
        script = environment / "bin" / program
        script.write_text(f'#!/bin/sh\nexec "{environment}/bin/python" -m {module} "$@"\n')
        script.chmod(0o755)
    folder = tmp_path / "clone"
    folder.mkdir()
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    return Walk(
        folder,
        {
            "PATH": f"{environment}/bin:/usr/bin:/bin",
            "COLUMNS": "120",
            "PIP_NO_INDEX": "1",  # what a plugin needs is installed here already: the walk is offline
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "WANDB_MODE": "offline",
        },
    )


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_holds(page: Path, reader: Walk) -> None:
    reader.through(page.read_text())


@pytest.mark.slow
def test_a_new_package_passes_in_an_environment_that_has_pytest(reader: Walk) -> None:
    line = "openvla new dataset my-robot && (cd openvla-my-robot && pip install -e . && pytest)"
    reader.through(f"```console\n$ {line}\n...5 passed...\n```")
