"""Actions of BridgeData are replaced by what the robot did."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openvla_toolkit.transforms.open_x.bridge import relabel_bridge


@given(state=hnp.arrays(np.float32, (6, 7), elements=st.floats(-4, 4, width=32)))
def test_relabelled_movements_add_up_to_the_way_that_was_gone(state: np.ndarray) -> None:
    trajectory = {
        "observation": {"state": state},
        "action": np.ones((6, 7), np.float32),
        "kept": np.arange(6),
    }
    found = relabel_bridge(trajectory)
    np.testing.assert_allclose(found["action"][:, :6].sum(axis=0), state[-1, :6] - state[0, :6], atol=1e-4)
    assert np.all(found["action"][:, 6] == 1)
    assert found["kept"].tolist() == [0, 1, 2, 3, 4]
