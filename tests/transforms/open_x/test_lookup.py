"""Which data sets have a standardisation."""

from __future__ import annotations

from openvla_toolkit.transforms.open_x.lookup import standardization
from openvla_toolkit.transforms.open_x.naming import STANDARDIZATIONS
from tests.conformance.open_x import DATASETS


def test_all_data_sets_of_the_original_have_one() -> None:
    assert len(DATASETS) == 73
    added_by_oft = set(STANDARDIZATIONS) - set(DATASETS)
    assert added_by_oft == {
        "libero_4_task_suites_no_noops",
        "aloha1_fold_shorts_20_demos",
        "aloha1_fold_shirt_30_demos",
        "aloha1_scoop_X_into_bowl_45_demos",
        "aloha1_put_X_into_pot_300_demos",
    }
    assert all(standardization(name) is STANDARDIZATIONS[name] for name in DATASETS)
