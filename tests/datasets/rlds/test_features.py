"""features.json: read, written, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.core.errors import DataError, MissingFile
from openvla_toolkit.datasets.rlds.features import (
    DTYPES,
    Dataset,
    Feature,
    FeaturesDict,
    Image,
    Scalar,
    Sequence,
    Tensor,
    Text,
    from_json,
    leaves,
    load_features,
    to_json,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "rlds" / "data" / "bridge_orig" / "1.0.0" / "features.json"

SIZES = st.lists(st.integers(0, 300), max_size=3).map(tuple)
DTYPE = st.sampled_from(sorted(DTYPES))
LEAVES: st.SearchStrategy[Feature] = st.one_of(
    st.builds(Tensor, SIZES, DTYPE, st.sampled_from(["none", "bytes", "zlib"])),
    st.builds(Scalar, DTYPE),
    st.builds(Image, st.tuples(st.none() | st.integers(1, 500), st.none() | st.integers(1, 500), st.just(3))),
    st.just(Text()),
)


def named(inner: st.SearchStrategy[Feature]) -> st.SearchStrategy[Feature]:
    return st.builds(FeaturesDict, st.dictionaries(st.text(min_size=1, max_size=8), inner, max_size=4))


def repeated(inner: st.SearchStrategy[Feature]) -> st.SearchStrategy[Feature]:
    length = st.none() | st.integers(0, 9)
    return st.builds(Sequence, inner, length) | st.builds(Dataset, inner, length)


STEPS = named(st.recursive(LEAVES, named, max_leaves=6))
TREES = named(st.one_of(LEAVES, repeated(LEAVES), repeated(STEPS), STEPS))


@given(tree=TREES)
def test_what_is_written_is_read(tree: FeaturesDict) -> None:
    assert from_json(json.loads(json.dumps(to_json(tree)))) == tree


def test_what_tfds_wrote_is_read_and_written_back() -> None:
    features = load_features(GOLDEN)
    assert dict(leaves(features))["steps/observation/image_0"] == Image((128, 128, 3), "jpeg")
    assert dict(leaves(features))["steps/observation/state"] == Tensor((7,), "float32")
    assert dict(leaves(features))["episode_metadata/has_language"] == Scalar("bool")
    assert to_json(features) == json.loads(GOLDEN.read_text())


def written(feature: Any) -> Any:
    """A FeaturesDict with the one feature ``odd`` in its steps."""
    steps = to_json(Dataset(FeaturesDict({"odd": Text()})))
    steps["sequence"]["feature"]["featuresDict"]["features"]["odd"] = feature
    whole = to_json(FeaturesDict({}))
    whole["featuresDict"]["features"]["steps"] = steps
    return whole


@pytest.mark.parametrize(
    ("feature", "reason"),
    [
        ({"pythonClassName": "a.b.Video", "sequence": {}}, "kind Video are not supported"),
        ({"type": "a.b.Text", "content": {}}, "older than 4.3"),
        ("text", "expected a mapping with 'pythonClassName'"),
        (to_json(Sequence(Text())), "a sequence inside a sequence"),
        (to_json(Tensor((None,), "float32")), "unknown dimension"),
        (to_json(Tensor((None, None), "float32", "zlib")), "unknown dimension"),
        (to_json(Tensor((1,), "bfloat16")), "the type 'bfloat16' is not one of bool, float16"),
        (to_json(Scalar("complex64")), "the type 'complex64' is not one of"),
        ({"pythonClassName": "a.b.Tensor"}, "description of this Tensor is not as expected: 'tensor'"),
        ({"pythonClassName": "a.b.Image", "image": {"shape": {"dimensions": ["x"]}}}, "this Image is not"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path: Path, feature: Any, reason: str) -> None:
    path = tmp_path / "features.json"
    path.write_text(json.dumps(written(feature)))
    with pytest.raises(DataError, match=reason) as caught:
        load_features(path)
    assert caught.value.file == path
    assert caught.value.key == "steps/odd"


def test_files_that_are_no_features_are_named(tmp_path: Path) -> None:
    path = tmp_path / "features.json"
    with pytest.raises(MissingFile, match=r"features\.json does not exist"):
        load_features(path)
    path.write_text('{"pythonClassName": ')
    with pytest.raises(DataError, match="it is not JSON"):
        load_features(path)
    path.write_text(json.dumps(to_json(Text())))
    with pytest.raises(DataError, match="expected a FeaturesDict at the top"):
        load_features(path)
