"""The ``openvla`` command: few verbs, the recipe has the knobs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from openvla_toolkit.core.errors import OpenVLAError, RecipeErrors

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and exit: 0 done, 1 failed, 2 the user can mend it, 130 interrupted."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = [word for word in given if word != "--debug"] or ["--help"]
    sys.exit(_guarded(words, show_traceback="--debug" in given))


def _guarded(words: list[str], *, show_traceback: bool) -> int:
    """Run a verb; whatever goes wrong is one line on stderr, or a traceback when that was asked for."""
    try:
        return _invoke(words)
    except BrokenPipeError:
        # The reader (a pager, `head`) has gone: what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _failed("interrupted.", 130)
    except OpenVLAError as error:
        if show_traceback:
            _trace()
        lines = error.errors if isinstance(error, RecipeErrors) else [error]
        return _failed("\n".join(f"error: {line}" for line in lines), error.exit_code)
    except Exception as error:
        if show_traceback:
            _trace()
        what = " ".join(str(error).split())
        return _failed(
            f"internal error: {type(error).__name__}: {what}; run again with --debug to see where.", 1
        )


def _invoke(words: list[str]) -> int:
    import click

    from openvla_toolkit.cli.verbs import openvla

    try:
        status = openvla.main(words, prog_name="openvla", standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "openvla"
        return _failed(f"error: {error.format_message()} See '{command} --help'.", error.exit_code)
    except click.ClickException as error:
        return _failed(f"error: {error.format_message()}", error.exit_code)
    except click.Abort:
        return _failed("interrupted.", 130)
    return status if isinstance(status, int) else 0


def _trace() -> None:
    import traceback

    traceback.print_exc()


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return code
