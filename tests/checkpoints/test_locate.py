"""Where a policy lies: folders, runs, shipped names, the hub; never something half-written."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from openvla_toolkit.checkpoints import locate as place
from openvla_toolkit.checkpoints.formats.reading import outlined_content
from openvla_toolkit.checkpoints.load import read_settings
from openvla_toolkit.checkpoints.locate import at_hand, locate, shipped_policies
from openvla_toolkit.core.errors import CheckpointError, MissingFile
from tests.checkpoints.small_models import small_adapter


def whole(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def test_a_policy_folder_is_itself(tmp_path: Path) -> None:
    folder = whole(tmp_path / "policy")
    assert locate(folder) == locate(str(folder)) == folder


def test_a_run_is_its_last_whole_checkpoint(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("step-000900", "step-001000", "step-001100.partial-1-ab"):
        whole(run / "checkpoints" / name)
    assert locate(run) == locate(run / "checkpoints") == run / "checkpoints" / "step-001000"


def test_what_was_never_finished_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="never finished"):
        locate(whole(tmp_path / "step-000001.partial-12-ab"))
    with pytest.raises(CheckpointError, match=r"neither a config.json nor a whole checkpoint"):
        locate(tmp_path)


def test_shipped_names_are_known_and_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(place, "_SHIPPED", tmp_path)
    folder = whole(tmp_path / "tabletop-tiny")
    (tmp_path / "no-policy").mkdir()
    assert shipped_policies() == {"tabletop-tiny": folder}
    assert locate("tabletop-tiny") == folder
    with pytest.raises(MissingFile, match=r"Did you mean 'tabletop-tiny'\?"):
        locate("tabletop-tini")
    monkeypatch.setattr(place, "_SHIPPED", tmp_path / "gone")
    with pytest.raises(MissingFile, match="Shipped: none"):
        locate("tabletop-tiny")


def test_a_hub_id_is_taken_from_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def download(name: str, **_: object) -> str:
        asked.append(name)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate("openvla/openvla-7b") == tmp_path
    assert {*asked} == {"openvla/openvla-7b"}


@pytest.mark.parametrize(
    ("name", "repository", "files", "folder"),
    [
        (
            "phi-2+3b",
            "TRI-ML/prismatic-vlms",
            ["phi-2+3b/config.json", "phi-2+3b/checkpoints/latest-checkpoint.pt"],
            "phi-2+3b",
        ),
        (
            "openvla/openvla-7b-prismatic",
            "openvla/openvla-7b-prismatic",
            [
                "config.json",
                "dataset_statistics.json",
                "checkpoints/step-295000-epoch-40-loss=0.2200.pt",
            ],
            "",
        ),
        ("openvla/openvla-7b-v01", "openvla/openvla-7b-v01", None, ""),
    ],
)
def test_of_a_catalogued_model_only_its_own_files_are_fetched(
    name: str,
    repository: str,
    files: list[str] | None,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def download(asked: str, *, allow_patterns: list[str] | None = None, **_: object) -> str:
        assert (asked, allow_patterns) == (repository, files)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert locate(name) == tmp_path / folder


def test_what_was_never_released_is_no_typing_mistake() -> None:
    with pytest.raises(MissingFile, match=r"no weights of 'siglip-224px\+mx-bridge' were released"):
        locate("siglip-224px+mx-bridge")


def test_a_name_near_one_of_the_catalog_is_suggested() -> None:
    with pytest.raises(MissingFile, match=r"Did you mean 'prism-dinosiglip-224px\+7b'\?"):
        locate("prism-dinosiglip-224p+7b")


def test_an_unreachable_hub_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, **_: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(CheckpointError, match="'openvla/openvla-7b' is not in the hub's cache"):
        locate("openvla/openvla-7b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "no block 'openvla_toolkit'"),
        ("[1]", r"config\.json is damaged: it holds no JSON object"),
        ("{", r"config\.json is missing or damaged"),
        (
            '{"openvla_toolkit": {"policy": {"name": "openvla", "chunk": 0, "weights": "x"}}}',
            "policy.chunk: Input",
        ),
    ],
)
def test_settings_that_cannot_be_read_are_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=message):
        read_settings(tmp_path)


def test_what_the_hub_would_have_to_send_is_not_at_hand(tmp_path: Path) -> None:
    folder = whole(tmp_path / "policy")
    assert at_hand(folder) == folder
    assert at_hand("tabletop-tiny") == locate("tabletop-tiny")
    for name in ("openvla/openvla-7b", "prism-dinosiglip+7b", "nobody/nothing"):
        assert at_hand(name) is None
    with pytest.raises(MissingFile, match="no policy 'tabletop-tini'"):
        at_hand("tabletop-tini")


def test_what_is_not_at_hand_can_be_outlined_by_the_catalog(tmp_path: Path) -> None:
    released, trained = outlined_content("openvla/openvla-7b"), outlined_content("prism-dinosiglip-224px+7b")
    assert released is not None
    assert trained is not None
    assert released.policy == trained.policy
    assert released.policy["projector"] == "fused-gelu-mlp"
    assert list(released.tensors()) == []
    assert outlined_content("nobody/nothing") is None
    adapter = small_adapter(tmp_path / "adapter", base="openvla/openvla-7b")
    under = outlined_content(adapter)
    assert under is not None
    assert under.policy == released.policy
