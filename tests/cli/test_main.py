from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from openvla_toolkit import __version__
from openvla_toolkit.cli import main, run
from openvla_toolkit.cli.verbs import VERBS
from openvla_toolkit.core.errors import RunInterrupted, TrainingError

Openvla = Callable[..., tuple[int, str, str]]


def test_help_is_what_no_words_give(openvla: Openvla) -> None:
    code, out, _ = openvla()
    assert code == 0
    assert openvla("--help") == (0, out, "")
    for verb, line in VERBS.items():
        assert verb in out
        assert line.split()[0] in out


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(openvla: Openvla, verb: str) -> None:
    code, out, _ = openvla(verb, "--help")
    assert code == 0
    assert out.startswith(f"Usage: openvla {verb}")


def test_version(openvla: Openvla) -> None:
    assert openvla("--version") == (0, f"openvla, version {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chek"], "error: there is no verb 'chek'. Did you mean 'check'? See 'openvla --help'.\n"),
        (["run"], "error: Missing argument 'RECIPE'. See 'openvla run --help'.\n"),
        (
            ["plugins", "--jsn"],
            "error: No such option '--jsn'. Did you mean '--json'? See 'openvla plugins --help'.\n",
        ),
        (["run", "absent.yaml"], "error: there is no recipe absent.yaml."),
        (["run", "x.yaml", "--resum"], "error: there is no option '--resum'. Did you mean '--resume'? See "),
        (
            ["run", "x.yaml", "steps"],
            "error: 'steps' is not of the form key.path=value. See 'openvla run --help'.\n",
        ),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    openvla: Openvla, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = openvla(*words)
    assert (code, out) == (2, "")
    assert err.startswith(message)
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (TrainingError("the loss is not finite."), 1, "error: the loss is not finite.\n"),
        (
            RunInterrupted("stopped at step 5; --resume goes on."),
            130,
            "error: stopped at step 5; --resume goes on.\n",
        ),
        (KeyboardInterrupt(), 130, "interrupted.\n"),
        (
            ValueError("two\nlines"),
            1,
            "internal error: ValueError: two lines; run again with --debug to see where.\n",
        ),
    ],
)
def test_failures_of_a_verb(
    openvla: Openvla, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def fail(**options: Any) -> None:
        raise error

    monkeypatch.setattr(run.command, "callback", fail)
    status, _, err = openvla("run", "x.yaml")
    assert status == code
    assert err.lstrip("\n") == message


def test_debug_shows_the_traceback_and_keeps_the_exit_code(openvla: Openvla) -> None:
    code, _, err = openvla("run", "absent.yaml", "--debug")
    assert code == 2
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("error: there is no recipe")


def test_a_reader_that_goes_away_is_no_error(toys: Path) -> None:
    command = [sys.executable, "-m", "openvla_toolkit", "show", "--schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


class TestThirdPartyVerbs:
    CODE = "import click\n@click.command()\ndef command():\n    click.echo('hello')\n"

    def test_they_are_listed_by_name_and_run(self, install: Any, openvla: Openvla) -> None:
        install(
            "openvla-greet",
            {"command": {"greet": "greet_module:command"}},
            modules={"greet_module": self.CODE},
        )
        _, out, _ = openvla("--help")
        assert "greet" in out
        assert "from openvla-greet" in out
        assert "greet_module" not in sys.modules
        assert openvla("greet") == (0, "hello\n", "")

    def test_a_broken_one_fails_only_when_it_is_run(self, install: Any, openvla: Openvla) -> None:
        groups = {"command": {"greet": "greet_module:command", "odd": "odd_module:command"}}
        install(
            "openvla-greet", groups, modules={"greet_module": "import nosuchlib", "odd_module": "command = 5"}
        )
        assert openvla("--help")[0] == 0
        code, _, err = openvla("greet")
        assert code == 2
        assert err.startswith("error: verb 'greet' from openvla-greet cannot be used: it needs nosuchlib")
        assert "it is not a click.Command" in openvla("odd")[2]

    def test_two_of_one_name_are_an_error_when_run(self, install: Any, openvla: Openvla) -> None:
        for package in ("openvla-a", "openvla-b"):
            module = package.replace("-", "_")
            install(package, {"command": {"greet": f"{module}:command"}}, modules={module: self.CODE})
        code, _, err = openvla("greet")
        assert code == 2
        assert "openvla-a, openvla-b" in err


def test_main_exits() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
