"""From nested values to the flat lists of an Example and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.datasets.rlds.columns import decode, encode
from openvla_toolkit.datasets.rlds.example import parse_example, serialize_example
from openvla_toolkit.datasets.rlds.features import (
    FLOATS,
    INTEGERS,
    Dataset,
    Feature,
    FeaturesDict,
    Image,
    Scalar,
    Sequence,
    Tensor,
    Text,
)

STORED_WHOLE = ("bool", *FLOATS, *INTEGERS)


def through(feature: Feature, value: Any, *, base: int = 0) -> Any:
    tree = FeaturesDict({"key": feature})
    data = serialize_example(encode(tree, {"key": value}))
    return decode(tree, parse_example(data), file=7, base=base)["key"]


@given(
    data=st.data(), dtype=st.sampled_from(STORED_WHOLE), encoding=st.sampled_from(["none", "bytes", "zlib"])
)
def test_tensors_come_back(data: st.DataObject, dtype: str, encoding: Any) -> None:
    shape = data.draw(st.lists(st.integers(1, 3), max_size=2).map(tuple))
    steps = data.draw(st.integers(0, 4))
    elements = st.floats(width=16) if dtype in FLOATS else None
    array = data.draw(hnp.arrays(dtype, (steps, *shape), elements=elements))
    found = through(Dataset(Tensor(shape, dtype, encoding)), array)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


@given(values=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_texts_come_back(values: list[str]) -> None:
    assert through(Dataset(Text()), values).tolist() == values


def test_strings_of_unknown_content_stay_bytes() -> None:
    found = through(Dataset(Tensor((2,), "string")), [[b"a", b"\xff"], [b"", b"d"]])
    assert found.tolist() == [[b"a", b"\xff"], [b"", b"d"]]


def test_single_values_come_back() -> None:
    assert through(Scalar("int32"), -4) == -4
    assert through(Text(), "grün") == "grün"
    assert through(Tensor((2,), "float32"), [1, 2]).tolist() == [1.0, 2.0]
    assert through(Sequence(Tensor((2,), "int64")), [[1, 2], [3, 4]]).tolist() == [[1, 2], [3, 4]]


def test_a_dimension_that_is_not_known_is_kept_in_encoded_tensors() -> None:
    array = np.arange(12, dtype=np.int16).reshape(2, 3, 2)
    np.testing.assert_array_equal(through(Dataset(Tensor((None, 2), "int16", "zlib")), array), array)


def test_images_become_addresses() -> None:
    pictures = [b"\x89PNG one", b"", b"\x89PNG three"]
    tree = FeaturesDict({"key": Dataset(Image((None, None, 3), "png"))})
    data = serialize_example(encode(tree, {"key": pictures}))
    addresses = decode(tree, parse_example(data), file=7, base=1000)["key"]
    assert addresses["file"].tolist() == [7, 7, 7]
    for address, picture in zip(addresses, pictures, strict=True):
        start = int(address["offset"]) - 1000
        assert data[start : start + int(address["length"])] == picture


def test_pixels_become_jpeg_files() -> None:
    pixels = np.zeros((8, 12, 3), np.uint8)
    pixels[:, 6:] = (250, 10, 10)
    (encoded,) = encode(Dataset(Image((8, 12, 3))), [pixels], key="picture")["picture"]
    decoded = simplejpeg.decode_jpeg(encoded).astype(int)
    assert np.abs(decoded - pixels).max() < 12


@pytest.mark.parametrize(
    ("feature", "value", "reason"),
    [
        (Dataset(Tensor((2,), "float32")), [[1, 2, 3]], "tensor of float32 .2."),
        (Dataset(Scalar("int64")), ["one"], "int64 number"),
        (Dataset(Text()), [b"bytes"], "text"),
        (Dataset(Image((4, 4, 3))), [np.zeros((4, 5, 3), np.uint8)], r"picture of the shape \(4, 5, 3\)"),
        (Dataset(Image((4, 4, 3))), [np.zeros((4, 4, 3))], "pixels of the type float64"),
        (Dataset(Image((4, 4, 3))), [np.zeros((4, 4), np.uint8)], r"shape \(4, 4\)"),
        (Dataset(Image((4, 4, 3), "png")), [np.zeros((4, 4, 3), np.uint8)], "give png pictures as bytes"),
    ],
)
def test_values_that_do_not_fit_are_named(feature: Feature, value: Any, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        through(feature, value)
    assert caught.value.key == "key"


def test_keys_that_do_not_fit_are_named() -> None:
    with pytest.raises(DataError, match="expected the keys a, b, found a, c"):
        encode(FeaturesDict({"a": Text(), "b": Text()}), {"a": "", "c": ""})


@pytest.mark.parametrize(
    ("feature", "column", "reason"),
    [
        (Dataset(Tensor((2,), "float32")), np.zeros(3, np.float32), "3 values do not make whole steps of 2"),
        (Dataset(Tensor((2,), "float32")), np.zeros(4, np.int64), "found a list of int64 numbers"),
        (Dataset(Scalar("int32")), [b"x"], "found a list of bytes"),
        (Dataset(Text()), np.zeros(2, np.int64), "found a list of int64 numbers"),
        (Dataset(Text()), [b"\xff"], "utf-8"),
        (Dataset(Tensor((2,), "int16", "bytes")), [b"abc"], "int16"),
        (Dataset(Tensor((2,), "int16", "zlib")), [b"abcd"], "decompress"),
        (Scalar("int32"), np.zeros(2, np.int64), "expected one int32 number, found 2"),
    ],
)
def test_columns_that_do_not_fit_are_named(feature: Feature, column: Any, reason: str) -> None:
    parsed = parse_example(serialize_example({"key": column}))
    with pytest.raises(DataError, match=reason) as caught:
        decode(FeaturesDict({"key": feature}), parsed, file=0, base=0)
    assert caught.value.key == "key"


def test_a_missing_column_is_named() -> None:
    with pytest.raises(DataError, match="does not hold this key") as caught:
        decode(FeaturesDict({"a": FeaturesDict({"b": Text()})}), {}, file=0, base=0)
    assert caught.value.key == "a/b"


def test_an_empty_list_has_no_type() -> None:
    empty = parse_example(serialize_example({"key": []}))
    assert decode(FeaturesDict({"key": Dataset(Scalar("float32"))}), empty, file=0, base=0)["key"].size == 0
    none = parse_example(serialize_example({"key": np.empty(0, np.float32)}))
    assert decode(FeaturesDict({"key": Dataset(Text())}), none, file=0, base=0)["key"].size == 0
