"""The ``openvla`` command: few verbs, the recipe has the knobs."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from openvla_toolkit.core.errors import OpenVLAError, RankLost, RecipeErrors, StorageError
from openvla_toolkit.core.worker import leave_last_words

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a verb and exit: 0 done, 1 failed, 2 the user can mend it, 128 + N stopped by signal N."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    words = [word for word in given if word != "--debug"] or ["--help"]
    status = _guarded(words, show_traceback="--debug" in given)
    if status and _is_a_rank():
        _leave(status)
    sys.exit(status)


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
        return _told(error)
    except Exception as error:
        if show_traceback:
            _trace()
        what = " ".join(str(error).split())
        said = f"internal error: {type(error).__name__}: {what}; run again with --debug to see where."
        return 1 if leave_last_words(said) else _failed(said, 1)


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


def _told(error: OpenVLAError) -> int:
    """Say what went wrong: to the launcher that asked for it, else on stderr."""
    lines = error.errors if isinstance(error, RecipeErrors) else [error]
    lost, passing = isinstance(error, RankLost), isinstance(error, StorageError)
    if leave_last_words("\n".join(map(str, lines)), lost=lost, passing=passing):
        return error.exit_code
    return _failed("\n".join(f"error: {line}" for line in lines), error.exit_code)


def _leave(status: int) -> NoReturn:
    """End a rank that failed at once: what waits for the other ranks in the background would keep it."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _trace() -> None:
    import traceback

    traceback.print_exc()


def _is_a_rank() -> bool:
    return os.environ.get("WORLD_SIZE", "1") != "1"


def _failed(message: str, code: int) -> int:
    sys.stderr.write(f"[rank {os.environ.get('RANK')}] {message}\n" if _is_a_rank() else f"{message}\n")
    return code
