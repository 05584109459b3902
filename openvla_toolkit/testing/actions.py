"""Checks of how actions are written: codes between numbers and ids, and action heads."""

from __future__ import annotations

import pickle

import numpy as np
import torch

from openvla_toolkit.core.types import IGNORED
from openvla_toolkit.interfaces.action_head import ActionHeadConfig
from openvla_toolkit.interfaces.action_tokenizer import ActionTokenizerConfig
from openvla_toolkit.testing.fakes.tiny import tiny_policy
from openvla_toolkit.testing.policies import check_policy
from openvla_toolkit.testing.verdict import check_settings, expect

__all__ = ["check_action_head", "check_action_tokenizer"]


def check_action_tokenizer(config: ActionTokenizerConfig, *, vocabulary_size: int = 32_000) -> None:
    """Check a code between actions and ids.

    Checked: the settings; that ``ids`` is ascending and within the vocabulary; that ``encode`` keeps the
    shape, gives only these ids and clips; that ``decode`` gives numbers in [-1, 1], at most one bin away
    from what was encoded, and is stable under a second round; that it can be pickled.
    """
    check_settings(config, ActionTokenizerConfig)
    code = config.build(vocabulary_size=vocabulary_size)
    ids = code.ids()
    expect(
        ids.dtype == np.int64 and ids.ndim == 1,
        config,
        expected="ids() as int64 [N]",
        found=f"{ids.dtype} {ids.shape}",
    )
    expect(bool((np.diff(ids) > 0).all()), config, expected="ids() to ascend", found=ids)
    inside = len(ids) > 0 and ids[0] >= 0 and ids[-1] < vocabulary_size
    expect(inside, config, expected=f"ids in [0, {vocabulary_size})", found=ids)
    numbers = np.linspace(-1, 1, 4000).reshape(40, 25, 4)
    written = code.encode(numbers)
    right = written.dtype == np.int64 and written.shape == numbers.shape
    expect(
        right,
        config,
        expected=f"encode() to give int64 {numbers.shape}",
        found=f"{written.dtype} {written.shape}",
    )
    strangers = sorted(set(written.flat) - set(ids.tolist()))
    expect(not strangers, config, expected="encode() to give ids of ids() only", found=strangers[:3])
    outside = code.encode(np.array([-5.0, 5.0]))
    ends = code.encode(np.array([-1.0, 1.0]))
    expect(
        np.array_equal(outside, ends),
        config,
        expected=f"numbers past the range to be clipped: {ends}",
        found=outside,
    )
    read = code.decode(written)
    right = read.shape == numbers.shape and bool((np.abs(read) <= 1).all())
    expect(right, config, expected=f"decode() to give {numbers.shape} in [-1, 1]", found=read.shape)
    widest = float(np.diff(np.unique(code.decode(ids))).max(initial=0))
    worst = float(np.abs(read - numbers).max())
    expect(
        worst <= widest,
        config,
        expected=f"a round trip to be at most one bin ({widest:.4f}) off",
        found=worst,
    )
    again = code.decode(code.encode(read))
    expect(
        np.array_equal(again, read), config, expected="a second round trip to change nothing", found="a drift"
    )
    copy = pickle.loads(pickle.dumps(code))
    expect(
        np.array_equal(copy.encode(numbers), written),
        config,
        expected="a pickled copy to agree",
        found="another code",
    )


def check_action_head(config: ActionHeadConfig, *, vocabulary_size: int = 1024) -> None:
    """Check an action head, alone and in the smallest real policy.

    Checked: the settings; that ``targets`` can be pickled, begins with what ``prompt`` gives and labels none
    of it, and gives int64 arrays of one length; then all of ``check_policy`` with this head.
    """
    check_settings(config, ActionHeadConfig)
    head = config.build(vocabulary_size=vocabulary_size, end_id=2, separator_id=7)
    targets = pickle.loads(pickle.dumps(head.targets))
    prompt_ids = np.array([1, 20, 30], dtype=np.int64)
    actions = np.linspace(-1, 1, 6).reshape(2, 3)
    prompt = targets.prompt(prompt_ids)
    ids, labels = targets(prompt_ids, actions)
    for what, values in (("prompt()", prompt), ("input ids", ids), ("labels", labels)):
        right = values.dtype == np.int64 and values.ndim == 1
        expect(right, config, expected=f"{what} as int64 [L]", found=f"{values.dtype} {values.shape}")
    expect(len(ids) == len(labels), config, expected=f"{len(ids)} labels, one per id", found=len(labels))
    begins = np.array_equal(ids[: len(prompt)], prompt)
    expect(begins, config, expected=f"the ids to begin with the prompt {prompt}", found=ids)
    unlearned = bool((labels[: len(prompt)] == IGNORED).all())
    expect(unlearned, config, expected=f"labels of {IGNORED} over the prompt", found=labels[: len(prompt)])
    learned = labels[labels != IGNORED]
    inside = bool(((learned >= 0) & (learned < vocabulary_size)).all())
    expect(inside, config, expected=f"labels in [0, {vocabulary_size})", found=learned)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        check_policy(tiny_policy(head=config))
