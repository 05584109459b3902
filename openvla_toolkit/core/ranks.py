"""Which process of a run this is: torchrun's variables, read without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from typing_extensions import Self

from openvla_toolkit.core.errors import UserError

__all__ = ["Ranks"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranks:
    """This process among the processes of its run; alone unless a launcher says otherwise."""

    rank: int = 0
    local_rank: int = 0
    """Among the processes of this machine: the number of its GPU."""
    world_size: int = 1
    local_world_size: int = 1

    @classmethod
    def here(cls) -> Self:
        """Read ``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE`` and ``LOCAL_WORLD_SIZE``.

        Raises:
            UserError: one is no number, or the rank is not below the world size.
        """
        if not cls.are_given():
            return cls()
        rank, world_size = _number("RANK", 0), _number("WORLD_SIZE", 1)
        if not 0 <= rank < world_size:
            raise UserError(
                f"RANK={rank} and WORLD_SIZE={world_size} do not go together: start the processes with "
                "--nproc or torchrun, which set both."
            )
        return cls(
            rank=rank,
            local_rank=_number("LOCAL_RANK", rank),
            world_size=world_size,
            local_world_size=_number("LOCAL_WORLD_SIZE", world_size),
        )

    @staticmethod
    def are_given() -> bool:
        """Tell whether a launcher started this process."""
        return "RANK" in os.environ

    @property
    def is_first(self) -> bool:
        """Whether this is the process that tells observers and writes what there is once."""
        return self.rank == 0


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable, str(default))
    try:
        return int(text)
    except ValueError as error:
        raise UserError(
            f"the environment variable {variable} is '{text}'; a number is expected (torchrun sets it)."
        ) from error
