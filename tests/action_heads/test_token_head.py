"""What is learned and how it is decoded, checked in the smallest real policy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.action_heads import TokensConfig
from openvla_toolkit.action_heads.token_targets import TokenTargets
from openvla_toolkit.action_tokenizers import UniformBinsConfig
from openvla_toolkit.core.types import IGNORED

CODE = UniformBinsConfig().build(vocabulary_size=1300)
SEPARATOR, END, VOCABULARY = 259, 2, 1300


class FixedModel(torch.nn.Module):
    """Answers with given logits, whatever it is shown; records what was asked of it."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.given = logits
        self.read: list[torch.Tensor] = []
        self.columns: list[torch.Tensor | None] = []

    def forward(self, ids: Any, pixels: Any, rows: Any, wanted: torch.Tensor) -> torch.Tensor:
        return self.given[: int(wanted.sum())]

    def image_features(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels

    def prefill(
        self, ids: torch.Tensor, mask: torch.Tensor, features: torch.Tensor
    ) -> tuple[torch.Tensor, int]:
        return torch.zeros(len(ids), dtype=torch.long), 0

    def decode_step(self, ids: torch.Tensor, state: int) -> tuple[torch.Tensor, int]:
        self.read.append(ids)
        return torch.full((len(ids),), state + 1), state + 1

    def logits(self, hidden: torch.Tensor, columns: torch.Tensor | None) -> torch.Tensor:
        self.columns.append(columns)
        rows = self.given[hidden]
        return rows if columns is None else rows[:, columns]


def head(**settings: Any) -> Any:
    return TokensConfig(action_tokenizer=UniformBinsConfig(), **settings).build(
        vocabulary_size=VOCABULARY, end_id=END, separator_id=SEPARATOR
    )


@given(
    prompt=st.lists(st.integers(0, 1000), min_size=1, max_size=9),
    actions=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=14),
    stop=st.booleans(),
)
def test_training_ids_are_the_prompt_for_acting_then_actions_then_the_end(
    prompt: list[int], actions: list[float], stop: bool
) -> None:
    targets = TokenTargets(CODE, end_id=END, separator_id=SEPARATOR, predict_stop=stop)
    numbers = np.array([actions], dtype=np.float32)
    asked = targets.prompt(np.array(prompt))
    ids, labels = targets(np.array(prompt), numbers)
    written = CODE.encode(numbers)[0].tolist()
    assert asked[-1] == SEPARATOR
    assert ids.tolist() == [*asked, *written, END]
    assert labels.tolist() == [IGNORED] * len(asked) + [*written, END if stop else IGNORED]


def test_the_separator_is_written_once_or_not_at_all() -> None:
    prompt = np.array([1, 5, SEPARATOR])
    targets = TokenTargets(CODE, end_id=END, separator_id=SEPARATOR, predict_stop=True)
    assert targets.prompt(prompt).tolist() == [1, 5, SEPARATOR]
    without = TokenTargets(CODE, end_id=END, separator_id=None, predict_stop=True)
    assert without.prompt(prompt[:2]).tolist() == [1, 5]


def test_chunks_are_written_action_after_action() -> None:
    targets = TokenTargets(CODE, end_id=END, separator_id=None, predict_stop=True)
    chunk = np.array([[-1.0, 0.0], [1.0, 0.5]], dtype=np.float32)
    ids, _ = targets(np.array([1]), chunk)
    assert ids[1:-1].tolist() == CODE.encode(chunk).reshape(-1).tolist()


def test_metrics_count_actions_and_conversations_apart_and_no_stop() -> None:
    truth = CODE.encode(np.array([-1.0, 1.0]))
    labels = torch.tensor([[IGNORED, *truth, END], [IGNORED, IGNORED, 300, END]])
    logits = torch.full((5, VOCABULARY + 44), -9.0)
    for row, guess in enumerate(
        [truth[0], truth[0], 7, 300, 301]
    ):  # right, far off, wrong stop, right, wrong
        logits[row, guess] = 9.0
    batch = {
        "labels": labels,
        "input_ids": labels,
        "pixel_values": torch.zeros(1),
        "image_rows": torch.zeros(1),
        "is_action": torch.tensor([True, False]),
    }
    report = head().loss(FixedModel(logits), batch)
    assert report.count.item() == 5
    figures = {name: (total.item(), count.item()) for name, (total, count) in report.metrics.items()}
    assert figures["token_accuracy"] == (1, 2)
    assert figures["text_accuracy"] == (1, 2)
    assert figures["l1"] == (pytest.approx(2 * CODE.centers[-1], rel=1e-6), 2)
    targets = torch.tensor([*truth, END, 300, END])
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="sum")
    assert report.total.item() == pytest.approx(expected.item())


def observe(count: int) -> dict[str, torch.Tensor]:
    ids = torch.ones(count, 4, dtype=torch.long)
    return {"input_ids": ids, "attention_mask": ids, "pixel_values": torch.zeros(count)}


def test_constrained_decoding_is_the_best_action_id_and_computes_no_other_column() -> None:
    logits = torch.randn(6, VOCABULARY, generator=torch.Generator().manual_seed(0))
    model = FixedModel(logits)
    decoded = head().decode(model, observe(2), (2, 3))
    best = logits[:, VOCABULARY - 256 :].argmax(dim=-1) + VOCABULARY - 256
    assert decoded.tokens.tolist() == [best.reshape(2, 3).tolist()] * 2
    np.testing.assert_array_equal(decoded.actions, CODE.decode(decoded.tokens))
    assert decoded.actions.shape == (2, 2, 3)
    assert all(columns is not None and len(columns) == 256 for columns in model.columns)
    assert [read[0].item() for read in model.read] == best[:-1].tolist()  # the last id is never read


def test_unconstrained_decoding_takes_the_best_of_all_ids() -> None:
    logits = torch.randn(4, VOCABULARY, generator=torch.Generator().manual_seed(0))
    logits[1, 300] = 99.0
    decoded = head(constrain=False).decode(FixedModel(logits), observe(1), (1, 4))
    assert decoded.tokens[0, 0].tolist() == logits.argmax(dim=-1).tolist()
    assert decoded.tokens[0, 0, 1] == 300
