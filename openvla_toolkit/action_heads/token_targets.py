"""Prompt and actions as one sequence of ids, and which of them are learned."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.types import IGNORED
from openvla_toolkit.interfaces.action_tokenizer import ActionTokenizer

__all__ = ["TokenTargets"]


class TokenTargets:
    """OpenVLA's ``RLDSBatchTransform``, but ids never pass through text, so that any tokenizer serves."""

    def __init__(
        self, code: ActionTokenizer, *, end_id: int, separator_id: int | None, predict_stop: bool
    ) -> None:
        self._code, self._end_id, self._separator_id = code, end_id, separator_id
        self._predict_stop = predict_stop

    def prompt(self, prompt_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the ids after which the first action id comes.

        Llama's tokenizer writes '▁' between ``Out:`` and the action characters, so the trained weights expect
        it there; published code appends it as id 29871.
        """
        if self._separator_id is None or (len(prompt_ids) and prompt_ids[-1] == self._separator_id):
            return prompt_ids
        return np.append(prompt_ids, self._separator_id)

    def __call__(
        self, prompt_ids: NDArray[np.int64], actions: NDArray[np.floating[Any]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return input ids [L] and labels [L]: prompt, the ids of ``actions`` [H, A], end of sequence."""
        prompt = self.prompt(prompt_ids)
        answer = np.append(self._code.encode(actions).reshape(-1), self._end_id)
        input_ids = np.concatenate([prompt, answer])
        labels = np.concatenate([np.full(len(prompt), IGNORED, dtype=np.int64), answer])
        if not self._predict_stop:
            labels[-1] = IGNORED
        return input_ids, labels
