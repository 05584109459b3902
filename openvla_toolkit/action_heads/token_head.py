"""Actions as tokens: next-token loss in training, greedy decoding when acting.

Shape legend: B samples, L text positions, K predicted tokens, V vocabulary, H actions of a chunk, A
dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from openvla_toolkit.action_heads import TokensConfig
from openvla_toolkit.action_heads.token_targets import TokenTargets
from openvla_toolkit.core.types import IGNORED
from openvla_toolkit.interfaces.action_head import Decoded, LossReport, Targets

__all__ = ["TokenHead"]


class TokenHead:
    """One id per number; a chunk [H, A] is written action after action."""

    def __init__(
        self, config: TokensConfig, *, vocabulary_size: int, end_id: int, separator_id: int | None
    ) -> None:
        self._constrain = config.constrain
        self._code = config.action_tokenizer.build(vocabulary_size=vocabulary_size)
        self._end_id = end_id
        self._values: dict[torch.device, Tensor] = {}
        self._ids: dict[torch.device, Tensor] = {}
        self.targets: Targets = TokenTargets(
            self._code, end_id=end_id, separator_id=separator_id, predict_stop=config.predict_stop
        )

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> LossReport:
        """Return the summed cross entropy over all labels; logits are made only where there is one."""
        labels = batch["labels"]
        wanted = labels != IGNORED
        wanted[:, 0] = False  # nothing stands before the first token that could predict it
        logits = model(batch["input_ids"], batch["pixel_values"], batch["image_rows"], wanted)
        targets = labels[wanted]
        of_robot = batch["is_action"][:, None].expand_as(wanted)[wanted]
        report = LossReport(
            total=F.cross_entropy(logits, targets, reduction="sum"), count=wanted.sum(), metrics={}
        )
        return self._told(report, logits.detach(), targets, of_robot, rows=batch["is_action"])

    @torch.no_grad()
    def _told(
        self, report: LossReport, logits: Tensor, targets: Tensor, of_robot: Tensor, *, rows: Tensor
    ) -> LossReport:
        """Add accuracy and L1 distance over action ids, and accuracy over the answers of conversations."""
        guesses = logits.argmax(dim=-1)
        right = guesses == targets
        action, text = of_robot & (targets != self._end_id), ~of_robot
        values = self._decoded(logits)
        distance = (values[guesses] - values[targets]).abs()

        places, robots = action.nonzero().squeeze(1), rows.nonzero().squeeze(1)
        width = len(places) // max(len(robots), 1)

        def table(numbers: Tensor) -> Tensor:
            """Lay the numbers of action ids out [B, N]; every row of a robot has as many, in order."""
            own = numbers[places].view(len(robots), width)
            return own.new_zeros(len(rows), width).index_copy_(0, robots, own)

        counted = table(action)
        ids, lead = self._choice(logits)
        return report._replace(
            metrics={
                "token_accuracy": ((right & action).sum(), action.sum()),
                "l1": ((distance * action).sum(), action.sum()),
                "text_accuracy": ((right & text).sum(), text.sum()),
            },
            details={"token_accuracy": (table(right), counted), "l1": (table(distance), counted)},
            chosen=table(ids),
            lead=table(lead),
        )

    def _choice(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the ids [K] that acting would choose, and how far each one's logit leads the next [K]."""
        allowed = self._allowed(logits.device) if self._constrain else None
        best = (logits if allowed is None else logits[:, allowed]).float().topk(2, dim=-1)
        ids = best.indices[:, 0]
        return ids if allowed is None else allowed[ids], best.values[:, 0] - best.values[:, 1]

    def _allowed(self, device: torch.device) -> Tensor:
        """Return every id of an action."""
        if device not in self._ids:
            self._ids[device] = torch.from_numpy(self._code.ids()).to(device)
        return self._ids[device]

    def _decoded(self, logits: Tensor) -> Tensor:
        """Return what every id [V] stands for, normalised; every id has a value, as in the original."""
        if logits.device not in self._values:
            values = self._code.decode(np.arange(logits.shape[-1], dtype=np.int64))
            self._values[logits.device] = torch.from_numpy(values).to(logits.device, torch.float32)
        return self._values[logits.device]

    def decode(self, model: nn.Module, batch: Mapping[str, Tensor], shape: tuple[int, int]) -> Decoded:
        """Return normalised actions [B, H, A] and their ids for left-padded prompts; ``shape`` is (H, A)."""
        tokens = self.decode_ids(model, batch, count=shape[0] * shape[1]).reshape(-1, *shape)
        return Decoded(actions=self._code.decode(tokens), tokens=tokens)

    @torch.inference_mode()
    def decode_ids(self, model: Any, batch: Mapping[str, Tensor], *, count: int) -> NDArray[np.int64]:
        """Return the ids [B, count] that follow the prompts, the likeliest one at each step."""
        allowed = self._allowed(batch["input_ids"].device) if self._constrain else None

        def choose(hidden: Tensor) -> Tensor:
            best = model.logits(hidden, allowed).argmax(dim=-1)
            return best if allowed is None else allowed[best]

        features = model.image_features(batch["pixel_values"])
        hidden, state = model.prefill(batch["input_ids"], batch["attention_mask"], features)
        chosen = [choose(hidden)]
        while len(chosen) < count:
            hidden, state = model.decode_step(chosen[-1], state)
            chosen.append(choose(hidden))
        ids: NDArray[np.int64] = torch.stack(chosen, dim=1).cpu().numpy()
        return ids
