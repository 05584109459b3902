"""Check of what does the pieces of a large job."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from itertools import islice

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.interfaces.executor import Executor, ExecutorConfig
from openvla_toolkit.testing.verdict import check_settings, expect

__all__ = ["check_executor"]

PIECES = tuple(range(7))


def check_executor(config: ExecutorConfig) -> None:
    """Check an executor with small numbers.

    Checked: the settings; that every piece is done once, with its own number; that no pieces are no work, and
    an executor works again; that an error of ``work``, and one of ``setup``, arrives as it was raised, with
    its fields; that work which is given up ends.
    """
    check_settings(config, ExecutorConfig)
    executor: Executor = config.build()
    wanted = [(number, 100 + number) for number in PIECES]
    for _ in range(2):
        found = _done(executor, PIECES)
        expect(found == wanted, config, expected=f"number and result of every piece, {wanted}", found=found)
    none = _done(executor, ())
    expect(not none, config, expected="nothing done where there are no pieces", found=none)
    _check_error(config, executor, start=100, wanted="3 is damaged.")
    _check_error(config, executor, start=-1, wanted="there is no start.")
    with closing(executor.map(_add, PIECES, setup=partial(_start, 100))) as results:
        first = list(islice(results, 1))
    expect(len(first) == 1, config, expected="one result of work that is given up", found=first)


def _done(executor: Executor, pieces: Sequence[int]) -> list[tuple[int, int]]:
    return sorted(executor.map(_add, pieces, setup=partial(_start, 100)))


def _check_error(config: ExecutorConfig, executor: Executor, *, start: int, wanted: str) -> None:
    found: object = "none"
    try:
        list(executor.map(_refuse, PIECES[3:4] * 2, setup=partial(_start, start)))
    except DataError as error:
        found = (error.reason, error.episode)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
    expect(
        found == (wanted, "seven"),
        config,
        expected=f"a DataError with reason '{wanted}' and episode 'seven'",
        found=found,
    )


def _start(start: int) -> int:
    if start < 0:
        raise DataError("there is no start.", episode="seven")
    return start


def _add(start: int, piece: int) -> int:
    return start + piece


def _refuse(start: int, piece: int) -> int:
    raise DataError(f"{piece} is damaged.", episode="seven")
