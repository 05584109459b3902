"""What the settings of engines say of themselves: what they spread, and how they could take less memory."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from openvla_toolkit.engines import DDPConfig, FSDPConfig, SingleConfig

BOTH: list[Any] = [{"activation_checkpointing": True}, {"precision": "bf16"}]
AWAY: list[Any] = [{"cpu_offload": True}]


def test_savings_are_the_changes_that_are_not_made_yet() -> None:
    assert [*SingleConfig().savings(1)] == [*DDPConfig().savings(2)] == BOTH
    assert [*DDPConfig(precision="bf16", activation_checkpointing=True).savings(2)] == []
    assert [*FSDPConfig(cpu_offload=True).savings(2)] == BOTH
    hybrid = FSDPConfig(precision="bf16", sharding="hybrid", shard_size=2, reshard_after_forward=False)
    spread: list[Any] = [{"sharding": "full", "shard_size": None}]
    assert [*hybrid.savings(1)] == [BOTH[0], {"reshard_after_forward": True}, *AWAY]
    assert [*hybrid.savings(4)] == [BOTH[0], {"reshard_after_forward": True}, *spread, *AWAY]


def test_what_spreads_parameters_takes_no_quantised_ones() -> None:
    assert SingleConfig().takes_quantised
    assert DDPConfig().takes_quantised
    assert not FSDPConfig(sharding="hybrid", shard_size=1).takes_quantised


def test_what_stays_gathered_is_told() -> None:
    assert FSDPConfig().spread(4).stays == 0
    assert FSDPConfig(reshard_after_forward=False).spread(4).stays == math.inf
    assert FSDPConfig(reshard_after_forward=False, cpu_offload=True).spread(4).stays == math.inf


@pytest.mark.parametrize(
    ("settings", "gigabytes"),
    [
        ({}, 2),
        ({"precision": "bf16"}, 4),
        ({"zero": {"overlap_comm": True}}, 4),
        ({"stage": 1, "zero": {"reduce_bucket_size": 5e7}}, 0.2),
        ({"zero": {"contiguous_gradients": False}}, 0),
        ({"zero": {"contiguous_gradients": False}, "offload": "optimizer"}, 2),
        ({"stage": 3, "zero": {"overlap_comm": True}}, 2),
        ({"stage": 3, "precision": "bf16"}, 3),
        ({"stage": 3, "zero": {"contiguous_gradients": False}}, 0),
    ],
    ids=str,
)
def test_deepspeeds_room_for_gradients_is_counted(settings: Any, gigabytes: float) -> None:
    made = pytest.importorskip("openvla_deepspeed").DeepSpeedConfig(**settings)
    assert made.spread(4).buffers == pytest.approx(gigabytes * 1e9)
    assert made.spread(4).stays == (5e8 if made.stage == 3 else 0)


def test_deepspeeds_savings() -> None:
    deepspeed: Any = pytest.importorskip("openvla_deepspeed").DeepSpeedConfig
    small: dict[str, Any] = {"zero.reduce_bucket_size": 50_000_000}
    apart = {"stage": 3, "zero.stage3_max_reuse_distance": 0}
    away = [{"offload": "optimizer"}, {"stage": 3, "offload": "parameters"}]
    assert [*deepspeed().savings(1)] == [small, *BOTH, *away]
    assert [*deepspeed(stage=1).savings(2)] == [small, *BOTH, {"stage": 2}, {"stage": 3}, apart, *away]
    done = {"reduce_bucket_size": 1000, "stage3_max_reuse_distance": 0}
    assert [*deepspeed(stage=3, zero=done, offload="optimizer").savings(2)] == [*BOTH, away[1]]
    with pytest.raises(ValidationError, match="'reduce_bucket_size' is a number of parameters, not 'auto'"):
        deepspeed(zero={"reduce_bucket_size": "auto"})
