"""``transformers`` finds the classes by the names in the files."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
from transformers import AutoConfig, AutoModelForImageTextToText

import openvla_toolkit
from openvla_toolkit.policies.prismatic.hugging_face import (
    OpenVLAConfig,
    OpenVLAForActionPrediction,
    PrismaticConfig,
    PrismaticForConditionalGeneration,
)

FACTORIES = [
    factory
    for name in ("AutoModelForImageTextToText", "AutoModelForVision2Seq")
    if (factory := getattr(transformers, name, None)) is not None
]


def test_registering_twice_does_no_harm() -> None:
    openvla_toolkit.register_auto_classes()
    openvla_toolkit.register_auto_classes()


def test_names_are_resolved_on_first_use() -> None:
    from openvla_toolkit.policies.prismatic import hugging_face

    for name in hugging_face.__all__:
        assert getattr(hugging_face, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        _ = hugging_face.Other


def test_configurations_are_found_by_model_type() -> None:
    assert isinstance(AutoConfig.for_model("openvla"), OpenVLAConfig)
    assert type(AutoConfig.for_model("prismatic")) is PrismaticConfig


@pytest.mark.parametrize("factory", FACTORIES)
def test_models_are_found_by_every_factory(factory: type) -> None:
    mapping = factory._model_mapping  # type: ignore[attr-defined]
    assert mapping[OpenVLAConfig] is OpenVLAForActionPrediction
    assert mapping[PrismaticConfig] is PrismaticForConditionalGeneration


def test_no_code_of_the_checkpoint_is_executed(folder: Path) -> None:
    """Published files name their own code; the registered classes go before it."""
    place = folder / "config.json"
    code = '"auto_map": {"AutoConfig": "evil.Config", "AutoModelForVision2Seq": "evil.Model"}, '
    place.write_text(place.read_text().replace("{", "{" + code, 1))
    (folder / "evil.py").write_text("raise SystemExit('executed')\n")
    model = AutoModelForImageTextToText.from_pretrained(folder)
    assert isinstance(model, OpenVLAForActionPrediction)
