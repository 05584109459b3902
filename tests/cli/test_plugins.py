from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Openvla = Callable[..., tuple[int, str, str]]
pytestmark = pytest.mark.usefixtures("toys")


def test_listing_imports_nothing(openvla: Openvla) -> None:
    sys.modules.pop("toy_parts", None)
    code, out, _ = openvla("plugins")
    assert code == 0
    assert "toy_parts" not in sys.modules
    assert ["policy", "toy-policy", "openvla-toolkit", "1.2.3"] in [line.split() for line in out.splitlines()]


def test_one_kind_and_json(openvla: Openvla) -> None:
    code, out, _ = openvla("plugins", "dataset", "--json")
    assert code == 0
    row = {"kind": "dataset", "name": "toy-episodes", "package": "openvla-toolkit", "version": "1.2.3"}
    assert {**row, "target": "toy_parts:DatasetConfig"} in json.loads(out)
    assert {one["kind"] for one in json.loads(out)} == {"dataset"}


def test_one_name_is_explained(openvla: Openvla) -> None:
    code, out, _ = openvla("plugins", "dataset", "toy-episodes")
    assert code == 0
    assert out.splitlines()[:2] == [
        "dataset 'toy-episodes' of openvla-toolkit 1.2.3",
        "toy_parts:DatasetConfig",
    ]
    assert "Toy episodes." in out
    assert "  root: Path  (required)" in out
    assert "  gripper_open: 'high' | 'low'  (default \"high\")\n      Which value opens." in out


def test_one_name_as_json(openvla: Openvla) -> None:
    explained = json.loads(openvla("plugins", "policy", "toy-policy", "--json")[1])
    code = next(field for field in explained["fields"] if field["name"] == "code")
    assert code["type"] == "action_tokenizer"
    assert code["doc"] == "How actions become tokens."


def test_unknown_kind_and_name_suggest(openvla: Openvla) -> None:
    code, _, err = openvla("plugins", "datasets")
    assert code == 2
    assert "there is no kind 'datasets'. Did you mean 'dataset'?" in err
    code, _, err = openvla("plugins", "dataset", "toy-episode")
    assert code == 2
    assert "Did you mean 'toy-episodes'?" in err


def test_a_kind_without_components_says_so(openvla: Openvla, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVLA_PLUGINS", "")
    assert openvla("plugins", "launcher") == (0, "nothing is installed.\n", "")


def test_hidden_plugins_are_not_listed(
    openvla: Openvla, install: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    install("openvla-mine", {"launcher": {"mine": "nowhere:Config"}})
    assert "openvla-mine" in openvla("plugins")[1]
    monkeypatch.setenv("OPENVLA_DISABLE_PLUGINS", "openvla_mine")
    assert "openvla-mine" not in openvla("plugins")[1]
