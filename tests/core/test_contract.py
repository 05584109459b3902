"""What a policy is promised and cannot use is refused."""

from __future__ import annotations

from typing import Any

import pytest

from openvla_toolkit.core.errors import ContractMismatch
from openvla_toolkit.testing import DotsRobotConfig, LinearPolicy, linear_policy, tiny_policy

ROBOT = DotsRobotConfig().build()


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"history": 2}, "a history of 2 observations; the policy 'dots-linear' sees the present moment"),
        ({"goal": True}, "promises pictures of the goal; "),
        ({"history": 3, "goal": True}, "a history of 3 observations and pictures of the goal; "),
    ],
)
def test_a_policy_of_one_moment_refuses_more(asked: dict[str, Any], told: str) -> None:
    contract = linear_policy(ROBOT).contract.model_copy(update=asked)
    with pytest.raises(ContractMismatch, match=told):
        LinearPolicy(contract, {})


def test_openvla_refuses_a_history() -> None:
    policy = tiny_policy().build(robot=ROBOT)
    contract = policy.contract.model_copy(update={"history": 2})
    with pytest.raises(ContractMismatch, match="'openvla' sees the present moment alone"):
        type(policy)(
            policy.config, policy.module, tokenizer=policy.tokenizer, contract=contract, statistics={}
        )
