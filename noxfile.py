"""Everything that is done to this project by one command: ``nox -s SESSION``.

On a machine without nox, ``python3 noxfile.py -s SESSION`` does the same: it puts nox into ``.nox/tool``, an
environment of its own (so externally managed Pythons are left alone), and hands over to it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from hashlib import sha256
from pathlib import Path

ROOT = Path(__file__).resolve().parent
TOOL = ROOT / ".nox" / "tool"

if __name__ == "__main__":
    if not (TOOL / "bin" / "nox").exists():
        # pip fills the environment from outside: a Python without ensurepip (Debian's) will do.
        venv.create(TOOL, clear=True, symlinks=True)
        pip = [sys.executable, "-m", "pip", "--python", str(TOOL / "bin" / "python"), "--quiet"]
        subprocess.run([*pip, "install", "nox>=2024.10"], check=True)
    nox_command = [str(TOOL / "bin" / "python"), "-m", "nox", "--noxfile", str(ROOT / "noxfile.py")]
    os.execv(nox_command[0], [*nox_command, *sys.argv[1:]])

import nox  # noqa: E402  # there may be none until here

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "virtualenv"  # brings its own pip, and reads pip's configuration
nox.options.reuse_existing_virtualenvs = True
nox.options.sessions = ["lint", "types", "imports", "tests"]

OFFLINE = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_WAIT_POLICY": "passive"}
"""No session needs a hub. OpenMP's threads wait busily by default: everything crawls on a shared machine."""

OLDEST = ("transformers==4.57.*", "timm==1.0.15", "huggingface_hub<1")
"""The lower bounds of ``pyproject.toml``; this release of transformers needs a hub client before 1."""

MADE_OF_BOTH = (
    "tests/policies/prismatic/hugging_face",
    "tests/policies/prismatic/test_full_size.py",
    *(
        f"tests/conformance/test_{name}.py"
        for name in (
            "hugging_face",
            "activations",
            "decoding",
            "policies",
            "adapters",
            "train_step",
            "lora_training",
        )
    ),
)
"""Tests of models and of the Hugging Face classes."""


APART = ("openvla-tfds",)
"""Plugins that are tested in an environment of their own: TensorFlow alone is 600 MB."""

PEERS = (
    "tensorflow-cpu==2.21.*",
    "tensorflow-datasets==4.9.*",
    "torch==2.13.*",
    "torchvision",
    "torchcodec==0.13.*",
    "av==18.*",
    "datasets==5.*",
    "draccus==0.10.*",
    "accelerate",
    "deepdiff",
    "einops",
    "jsonlines",
)
PEERS_ALONE = ("lerobot==0.4.4",)
"""LeRobot wants an older torch and a simulator's worth of packages; its data sets need none of them."""


@nox.session
def quickstart(session: nox.Session) -> None:
    """Run the main job: fine-tune the shipped base on new data, measure before and after, write a report."""
    _install(session, "-e", ".")
    arguments = ["run", "recipes/quickstart.yaml", "--resume", *session.posargs]
    session.run("openvla", *arguments, env=OFFLINE)


@nox.session
def oldest(session: nox.Session) -> None:
    """Run what touches transformers' and timm's classes on the oldest supported releases of both."""
    _install(session, "-e", ".[lora]", *OLDEST, "pytest>=8.2", "hypothesis>=6.100")
    session.run("pytest", *(session.posargs or MADE_OF_BOTH), env={**OFFLINE, "OMP_NUM_THREADS": "1"})


@nox.session
def tfds(session: nox.Session) -> None:
    """Test the plugin openvla-tfds beside TensorFlow; ``OPENVLA_CONFORMANCE_KIT`` as for ``conformance``."""
    _install(session, "-e", ".", "-e", "plugins/openvla-tfds[test]")
    arguments = ["plugins/openvla-tfds/tests", *session.posargs]
    session.run("pytest", *arguments, env={**OFFLINE, "OMP_NUM_THREADS": "1"})


@nox.session
def peers(session: nox.Session) -> None:
    """Make the environment of what the benchmarks of data measure beside ours: tf.data and LeRobot."""
    _install(session, *PEERS)
    session.install("--no-deps", *PEERS_ALONE)


@nox.session
def develop(session: nox.Session) -> None:
    """Make the environment that all sessions below share."""
    folders = [path.parent for path in ROOT.glob("plugins/*/pyproject.toml")]
    plugins = sorted(str(folder.relative_to(ROOT)) for folder in folders if folder.name not in APART)
    editable = [word for project in (".[dev]", *plugins) for word in ("-e", project)]
    _install(session, *editable)


@nox.session(python=False, requires=["develop"])
def tests(session: nox.Session) -> None:
    """Run the test suite, plugins' tests included; arguments go to pytest."""
    cache = session.create_tmp()
    _run(session, "pytest", *session.posargs, OMP_NUM_THREADS="1", OPENVLA_CACHE=str(Path(cache) / "cache"))


@nox.session(python=False, requires=["develop"])
def conformance(session: nox.Session) -> None:
    """Compare with the original: the kit that ``OPENVLA_CONFORMANCE_KIT`` names, or the trimmed one."""
    _run(session, "pytest", "tests/conformance", *session.posargs, OMP_NUM_THREADS="1")


@nox.session(python=False, requires=["develop"])
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    _run(session, "ruff", "check", ".")
    _run(session, "ruff", "format", "--check", ".")


@nox.session(python=False, requires=["develop"])
def types(session: nox.Session) -> None:
    """Check types."""
    _run(session, "mypy", *session.posargs)


@nox.session(python=False, requires=["develop"])
def imports(session: nox.Session) -> None:
    """Check who imports whom, and that what must start fast imports nothing heavy."""
    _run(session, "lint-imports")
    _run(session, "pytest", "tests/architecture/test_light_imports.py")


@nox.session(python=False, requires=["develop"])
def docs(session: nox.Session) -> None:
    """Build the documentation into ``site/``; warnings are errors. ``-- serve`` shows it while you write."""
    _run(session, "mkdocs", *(session.posargs or ["build", "--strict"]))


@nox.session(python=False, requires=["develop"])
def bench(session: nox.Session) -> None:
    """Measure the named groups of benchmarks (all without names) against peers; see ``benchmarks/``."""
    if not session.posargs or "data" in session.posargs:
        _run(session, "nox", "-s", "peers")
    _run(session, "python", "-m", "benchmarks", *session.posargs)


def _install(session: nox.Session, *arguments: str) -> None:
    """Install with one pip command, unless this environment was made from the same arguments and projects."""
    projects = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
    content = repr(arguments).encode() + b"".join(path.read_bytes() for path in projects)
    made_from = sha256(content).hexdigest()
    stamp = Path(session.bin).parent / "made-from"
    if stamp.exists() and stamp.read_text() == made_from:
        return
    session.install(*arguments)
    stamp.write_text(made_from)


def _run(session: nox.Session, program: str, *arguments: str, **variables: str) -> None:
    """Run a program of the shared environment; one that is not there fails the session."""
    folder = ROOT / ".nox" / "develop" / "bin"
    path = f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
    session.run(str(folder / program), *arguments, env={**OFFLINE, "PATH": path, **variables}, external=True)
