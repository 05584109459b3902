"""Sets whose action needs little or nothing: the parts of the state get names, a flag at the end goes."""

from __future__ import annotations

from openvla_toolkit.interfaces.transform import Trajectory
from openvla_toolkit.transforms.open_x.arrays import join, revised, zeros
from openvla_toolkit.transforms.open_x.naming import standardizes

__all__ = [
    "as_it_is",
    "asu_table_top",
    "cmu_franka_exploration",
    "cmu_stretch",
    "dlr_sara_grid_clamp",
    "dobbe",
    "fmb",
    "maniskill",
    "nyu_rot",
    "six_and_gripper",
    "ucsd_kitchen",
    "utokyo_pr2",
    "utokyo_xarm_bimanual",
]


@standardizes(
    "utokyo_xarm_pick_and_place_converted_externally_to_rlds",
    "berkeley_mvp_converted_externally_to_rlds",
    "berkeley_rpt_converted_externally_to_rlds",
    "dlr_sara_pour_converted_externally_to_rlds",
    "aloha1_fold_shorts_20_demos",
    "aloha1_fold_shirt_30_demos",
    "aloha1_scoop_X_into_bowl_45_demos",
    "aloha1_put_X_into_pot_300_demos",
)
def as_it_is(trajectory: Trajectory) -> Trajectory:
    """Change nothing."""
    return trajectory


@standardizes("tokyo_u_lsmo_converted_externally_to_rlds", "stanford_robocook_converted_externally_to_rlds")
def six_and_gripper(trajectory: Trajectory) -> Trajectory:
    """Name the parts of the state."""
    state = trajectory["observation"]["state"]
    return revised(trajectory, observation={"eef_state": state[:, :6], "gripper_state": state[:, -1:]})


@standardizes(
    "utokyo_pr2_opening_fridge_converted_externally_to_rlds",
    "utokyo_pr2_tabletop_manipulation_converted_externally_to_rlds",
)
def utokyo_pr2(trajectory: Trajectory) -> Trajectory:
    """Name the parts of the state; the action ends in a flag."""
    return {**six_and_gripper(trajectory), "action": trajectory["action"][..., :-1]}


@standardizes(
    "cmu_franka_exploration_dataset_converted_externally_to_rlds", "imperialcollege_sawyer_wrist_cam"
)
def cmu_franka_exploration(trajectory: Trajectory) -> Trajectory:
    """Cut off the flag at the end of the action."""
    return {**trajectory, "action": trajectory["action"][..., :-1]}


@standardizes("ucsd_kitchen_dataset_converted_externally_to_rlds")
def ucsd_kitchen(trajectory: Trajectory) -> Trajectory:
    """Cut off the flag at the end of the action; the state begins with the joints."""
    joints = trajectory["observation"]["state"][:, :7]
    return revised(trajectory, observation={"joint_state": joints}, action=trajectory["action"][..., :-1])


@standardizes("cmu_stretch")
def cmu_stretch(trajectory: Trajectory) -> Trajectory:
    """Cut off the flag at the end of the action; the state has no orientation."""
    state = trajectory["observation"]["state"]
    parts = {"eef_state": join(state[:, :3], zeros(state, 3)), "gripper_state": state[:, -1:]}
    return revised(trajectory, observation=parts, action=trajectory["action"][..., :-1])


@standardizes("utokyo_xarm_bimanual_converted_externally_to_rlds")
def utokyo_xarm_bimanual(trajectory: Trajectory) -> Trajectory:
    """Take the right arm's actions."""
    return {**trajectory, "action": trajectory["action"][..., -7:]}


@standardizes("nyu_rot_dataset_converted_externally_to_rlds")
def nyu_rot(trajectory: Trajectory) -> Trajectory:
    """Name the parts of the state; of the action seven numbers count."""
    return {**six_and_gripper(trajectory), "action": trajectory["action"][..., :7]}


@standardizes("maniskill_dataset_converted_externally_to_rlds")
def maniskill(trajectory: Trajectory) -> Trajectory:
    """Name the gripper's part of the state."""
    return revised(trajectory, observation={"gripper_state": trajectory["observation"]["state"][..., 7:8]})


@standardizes("dlr_sara_grid_clamp_converted_externally_to_rlds")
def dlr_sara_grid_clamp(trajectory: Trajectory) -> Trajectory:
    """Keep the pose of the state."""
    return revised(trajectory, observation={"state": trajectory["observation"]["state"][:, :6]})


@standardizes("asu_table_top_converted_externally_to_rlds")
def asu_table_top(trajectory: Trajectory) -> Trajectory:
    """Take the pose from the ground truth."""
    parts = {
        "eef_state": trajectory["ground_truth_states"]["EE"],
        "gripper_state": trajectory["observation"]["state"][:, -1:],
    }
    return revised(trajectory, observation=parts)


@standardizes("fmb_dataset")
def fmb(trajectory: Trajectory) -> Trajectory:
    """Join pose and gripper of the state."""
    observation = trajectory["observation"]
    proprio = join(observation["eef_pose"], observation["state_gripper_pose"][..., None])
    return revised(trajectory, observation={"proprio": proprio})


@standardizes("dobbe")
def dobbe(trajectory: Trajectory) -> Trajectory:
    """Call the state by its common name."""
    return revised(trajectory, observation={"proprio": trajectory["observation"]["state"]})
