"""Pictures and texts as the original's processor prepares them; its file, field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoProcessor

from openvla_toolkit.core.contract import FrameRecipe, ImageRecipe
from openvla_toolkit.core.errors import CheckpointError, UserError
from openvla_toolkit.core.images.framing import framed
from openvla_toolkit.policies.prismatic.hugging_face import PrismaticImageProcessor
from openvla_toolkit.policies.prismatic.images import Pixels

DINO, SIGLIP = (0.485, 0.456, 0.406), (0.5, 0.5, 0.5)
FUSED: dict[str, Any] = {
    "use_fused_vision_backbone": True,
    "input_sizes": [[3, 28, 28]] * 2,
    "interpolations": ["bicubic"] * 2,
    "means": [DINO, SIGLIP],
    "stds": [(0.229, 0.224, 0.225), SIGLIP],
}


@pytest.mark.parametrize("strategy", ["resize-naive", "resize-crop", "letterbox"])
def test_a_single_tower_sees_what_training_shows_it(strategy: Any, picture: Image.Image) -> None:
    processor = PrismaticImageProcessor(image_resize_strategy=strategy, input_sizes=[[3, 28, 28]])
    recipe = ImageRecipe(strategy=strategy, size=28, means=(SIGLIP,), stds=(SIGLIP,))
    expected = Pixels(recipe)(np.asarray(picture), camera="primary")
    np.testing.assert_array_equal(processor(picture)["pixel_values"][0], expected)
    torch.testing.assert_close(processor.apply_transform(picture), torch.from_numpy(expected), rtol=0, atol=0)


def test_a_fused_letterbox_pads_both_towers_with_the_last_one_s_mean(picture: Image.Image) -> None:
    processor = PrismaticImageProcessor(image_resize_strategy="letterbox", **FUSED)
    assert processor.tvf_letterbox_fill == [127, 127, 127]
    stds = np.array(FUSED["stds"][0])
    corner = processor(picture)["pixel_values"][0, :3, 0, 0]
    np.testing.assert_allclose(corner, (127 / 255 - np.array(DINO)) / stds, rtol=1e-5)
    native = ImageRecipe(strategy="letterbox", size=28, means=(DINO, SIGLIP), stds=FUSED["stds"])
    own = Pixels(native)(np.asarray(picture), camera="primary")[:3, 0, 0]
    np.testing.assert_allclose(own, (np.array([123, 116, 103]) / 255 - DINO) / stds, rtol=1e-4, atol=1e-6)
    both = native.model_copy(update={"fills": ((127, 127, 127),) * 2})
    np.testing.assert_array_equal(
        Pixels(both)(np.asarray(picture), camera="primary"), processor(picture)["pixel_values"][0]
    )


def test_the_transforms_parameters_count_not_the_settings(picture: Image.Image) -> None:
    plain = PrismaticImageProcessor(**FUSED)
    rounded = [{"inplace": False, "mean": [0.484375] * 3, "std": [0.25] * 3}] * 2
    changed = PrismaticImageProcessor(**FUSED, tvf_normalize_params=rounded)
    uint8 = plain(picture)["pixel_values"][0, 3:] * 0.5 + 0.5
    np.testing.assert_allclose(changed(picture)["pixel_values"][0, 3:], (uint8 - 0.484375) / 0.25, atol=1e-5)


def test_what_is_written_is_read_again(tmp_path: Path, picture: Image.Image) -> None:
    processor = PrismaticImageProcessor(image_resize_strategy="letterbox", **FUSED)
    processor.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert written["image_processor_type"] == "PrismaticImageProcessor"
    assert written["processor_class"] == "PrismaticProcessor"
    assert written["tvf_resize_params"][0] == {
        "antialias": True,
        "interpolation": 3,
        "max_size": None,
        "size": 28,
    }
    assert written["tvf_crop_params"][0] == {"output_size": [28, 28]}
    assert written["tvf_normalize_params"][0]["mean"] == [float(np.float32(value)) for value in DINO]
    again = PrismaticImageProcessor.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again(picture)["pixel_values"], processor(picture)["pixel_values"])


def test_a_frame_is_made_first_and_written(tmp_path: Path, picture: Image.Image) -> None:
    frame = FrameRecipe(resample="fused", crop=0.5)
    processor = PrismaticImageProcessor(**FUSED, frame=frame.model_dump(mode="json"))
    middle = framed(np.asarray(picture), frame, size=(28, 28))
    wanted = PrismaticImageProcessor(**FUSED)(Image.fromarray(middle))["pixel_values"]
    np.testing.assert_array_equal(processor(picture)["pixel_values"], wanted)
    np.testing.assert_array_equal(processor.apply_transform(picture), wanted[0])
    processor.save_pretrained(tmp_path)
    again = PrismaticImageProcessor.from_pretrained(tmp_path)
    np.testing.assert_array_equal(again(picture)["pixel_values"], wanted)


def test_the_whole_processor_is_found_and_written(folder: Path, tmp_path: Path, picture: Image.Image) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    batch = processor(["push", "lift the cube"], [picture, picture], padding=True)
    assert set(batch) >= {"input_ids", "attention_mask", "pixel_values"}
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    assert batch["attention_mask"][0, -1] == 0
    processor.save_pretrained(tmp_path)
    assert (tmp_path / "preprocessor_config.json").is_file()
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    again = AutoProcessor.from_pretrained(tmp_path)
    torch.testing.assert_close(again("push", picture)["pixel_values"], batch["pixel_values"][:1])
    ids = again("push", picture)["input_ids"]
    assert ids.tolist() == processor("push", picture)["input_ids"].tolist()
    assert (
        again.decode(ids[0], skip_special_tokens=True) == again.batch_decode(ids, skip_special_tokens=True)[0]
    )
    assert isinstance(AutoImageProcessor.from_pretrained(folder), PrismaticImageProcessor)


def test_there_is_a_picture_for_every_text(folder: Path, picture: Image.Image) -> None:
    with pytest.raises(UserError, match="2 texts and 1 pictures"):
        AutoProcessor.from_pretrained(folder)(["a", "b"], picture)


def test_texts_of_different_lengths_are_padded_when_asked(folder: Path, picture: Image.Image) -> None:
    processor = AutoProcessor.from_pretrained(folder)
    texts, pictures = ["lift", "push the red cube to the left"], [picture, picture]
    with pytest.raises(UserError, match="need 'padding=True'"):
        processor(texts, pictures)
    assert len(processor(texts, pictures, padding=True)["input_ids"]) == 2


@pytest.mark.parametrize("wrong", ["photo.png", None, [[0, 0, 0]]])
def test_what_is_no_picture_is_refused(wrong: Any) -> None:
    with pytest.raises(UserError, match=f"a picture must be .*; {type(wrong).__name__} was given"):
        PrismaticImageProcessor().apply_transform(wrong)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_resize_strategy": "stretch"}, "'image_resize_strategy' is 'stretch'"),
        ({"means": [SIGLIP, SIGLIP]}, "'means' has 2 entries for 1"),
        ({"interpolations": ["cubic"]}, "'interpolations' has 'cubic'"),
    ],
)
def test_contradictions_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        PrismaticImageProcessor(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"tvf_normalize_params": [{"mean": SIGLIP, "std": SIGLIP}] * 2},
        {"tvf_crop_params": [{"size": 224}]},
        {"tvf_resize_params": [{"size": 224, "interpolation": 77}]},
    ],
)
def test_parameters_that_make_no_sense_are_refused(fields: dict[str, Any], picture: Image.Image) -> None:
    with pytest.raises(CheckpointError, match=r"'tvf_\*' do not describe"):
        PrismaticImageProcessor(**fields)(picture)
