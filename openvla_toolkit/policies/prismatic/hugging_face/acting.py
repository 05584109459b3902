"""Actions from a model of ``transformers``, called as the original is called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from openvla_toolkit.core.errors import ContractMismatch, UserError
from openvla_toolkit.core.registry import load
from openvla_toolkit.core.statistics import Statistics, select_statistics, unnormalize
from openvla_toolkit.policies.prismatic.hugging_face.layout import left_padded

__all__ = ["Acting"]


class Acting:
    """``predict_action`` for a model with ``config``, ``generate`` and ``norm_stats``."""

    config: Any
    generate: Any
    norm_stats: Mapping[str, Any] | None
    """Statistics per data set; may be replaced, by those of ``dataset_statistics.json`` for example."""
    vocab_size: int
    """Action ids count down from here."""

    def predict_action(
        self, input_ids: Tensor | None = None, unnorm_key: str | None = None, **kwargs: Any
    ) -> NDArray[np.float64]:
        """Return the action [A] that follows a prompt, in the robot's units; [B, A] for B > 1 prompts.

        Args:
            input_ids: [B, L] prompts; the id that always stands before an action in training is added.
            unnorm_key: the data set whose statistics scale the actions; needed where there are several.
            kwargs: ``pixel_values`` and ``attention_mask`` from the processor, and settings of ``generate``.

        Raises:
            ContractMismatch: unknown or ambiguous ``unnorm_key``; lists the keys with their dimensions.
            UserError: there is no prompt, or no picture.
        """
        if input_ids is None or input_ids.ndim != 2:
            found = "nothing" if input_ids is None else f"shape {list(input_ids.shape)}"
            raise UserError(f"input_ids must have shape [rows, length]; {found} was given.")
        if kwargs.get("pixel_values") is None:
            raise UserError("pixel_values are missing: without a picture the model would act blindly.")
        moments = self._statistics(unnorm_key).action
        mask = kwargs.pop("attention_mask", None)
        mask = torch.ones_like(input_ids) if mask is None else mask.long()
        input_ids, mask = self._with_separator(*left_padded(input_ids, mask))
        count = len(moments.mean)
        # A row that ended early would be read from its prompt: the end is not allowed before the last number.
        lengths = {"max_new_tokens": count, "min_new_tokens": count}
        generated = self.generate(input_ids, **{"attention_mask": mask, **lengths, **kwargs})
        ids = generated[:, -count:].cpu().numpy()
        settings: Any = load("action_tokenizer", "uniform-bins")
        code = settings(bins=self.config.n_action_bins).build(vocabulary_size=self.vocab_size)
        actions = unnormalize(code.decode(ids), moments, self.config.action_normalization())
        return actions[0] if len(actions) == 1 else actions

    def get_action_dim(self, unnorm_key: str | None = None) -> int:
        """Return how many numbers an action of this data set has.

        Raises:
            ContractMismatch: unknown or ambiguous ``unnorm_key``.
        """
        return len(self._statistics(unnorm_key).action.mean)

    def get_action_stats(self, unnorm_key: str | None = None) -> dict[str, Any]:
        """Return the action statistics of a data set as they stand in ``config.json``.

        Raises:
            ContractMismatch: unknown or ambiguous ``unnorm_key``.
        """
        self._statistics(unnorm_key)
        entries = self.norm_stats or {}
        entry = next(iter(entries.values())) if unnorm_key is None else entries[unnorm_key]
        return entry["action"]  # type: ignore[no-any-return]

    def _statistics(self, unnorm_key: str | None) -> Statistics:
        entries = {
            name: Statistics.from_json(entry, place=f"norm_stats: {name}")
            for name, entry in (self.norm_stats or {}).items()
        }
        if not entries:
            raise ContractMismatch(
                "the model has no statistics ('norm_stats' of config.json) to scale actions with; set "
                "model.norm_stats to the content of dataset_statistics.json."
            )
        return select_statistics(entries, unnorm_key)

    def _with_separator(self, input_ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Append the id before the first action token unless every row ends in it, mask included."""
        separator = self.config.separator_id
        if separator is None or bool((input_ids[:, -1] == separator).all()):
            return input_ids, mask
        return F.pad(input_ids, (0, 1), value=separator), F.pad(mask, (0, 1), value=1)
