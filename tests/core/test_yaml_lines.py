from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from openvla_toolkit.core.errors import RecipeError
from openvla_toolkit.core.yaml_lines import parse_file, parse_value

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12)
trees = st.recursive(
    scalars,
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=8), below, max_size=3),
)


@given(st.dictionaries(st.text(max_size=8), trees, min_size=1, max_size=4))
def test_what_json_writes_is_read_back(data: dict[str, object]) -> None:
    text = yaml.safe_dump(data, default_style='"', allow_unicode=False)
    plain = parse_file(text.encode(), file="x.yaml").data
    assert plain == yaml.safe_load(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-4", 5e-4),
        ("5.0e-4", 5e-4),
        ("1e3", 1e3),
        (".5", 0.5),
        ("-3.", -3.0),
        ("7", 7),
        ("0x1f", 31),
        ("0o17", 15),
        ("017", 17),
        ("+4", 4),
        ("-.inf", -math.inf),
        (".inf", math.inf),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("yes", "yes"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("'5'", "5"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("~", None),
        ("null", None),
        ("", None),
        ("[1, {a: b}]", [1, {"a": "b"}]),
        ("&x [1]", [1]),
    ],
)
def test_plain_scalars_follow_yaml_1_2(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_not_a_number_is_a_float() -> None:
    assert math.isnan(parse_value(".nan"))


def test_every_path_has_its_line() -> None:
    document = parse_file(b"# comment\na: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n", file="x.yaml")
    assert document.data == {"a": 1, "b": ["x", {"c": 2, "d": 3}]}
    assert document.lines == {
        (): 2,
        ("a",): 2,
        ("b",): 3,
        ("b", 0): 4,
        ("b", 1): 5,
        ("b", 1, "c"): 5,
        ("b", 1, "d"): 6,
    }


def test_keys_are_texts_and_aliases_share_their_value() -> None:
    assert parse_file(b"1: &x {y: 2}\ntrue: *x\n", file="x.yaml").data == {"1": {"y": 2}, "true": {"y": 2}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "x.yaml:1: is empty"),
        (b"# only a comment\n", "x.yaml:1: is empty"),
        (b"- a\n- b\n", "x.yaml:1: is not a mapping"),
        (b"\n\njust text\n", "x.yaml:3: is not a mapping"),
        (b"a: 1\nb: [1, 2\nc: 3\n", "x.yaml:3: is not YAML: "),
        (b"a: 1\n\tb: 2\n", "x.yaml:2: is not YAML: "),
        (b"a: 1\na: 2\n", "x.yaml:2: key 'a' stands here twice (first on line 1)."),
        (b"t:\n  b: 1\n  b: 2\n", "x.yaml:3: t: key 'b' stands here twice (first on line 2)."),
        (b"a: 1\n\xff\xfe\x00\x01", "x.yaml:2: is not a text in UTF-8"),
        (b"\x89PNG\r\n\x1a\n\x00", "x.yaml:1: is not a text in UTF-8"),
        (b"a: \x00", "x.yaml: is not YAML: "),
        (b"a: &x [*x]\n", "x.yaml:1: a.0: an alias may not contain itself."),
        (b"a: !!python/object:os.system {}\n", "x.yaml:1: a: tags such as"),
        (b"a: !mine 5\n", "x.yaml:1: a: tags such as !mine"),
        (b"? [a, b]\n: 1\n", "x.yaml:1: a key must be a plain text."),
        (b"a: " + b"[" * 5000, "x.yaml"),
        (b"a: 1\n---\nb: 2\n", "x.yaml:2: is not YAML: "),
    ],
)
def test_what_is_no_recipe_is_refused_with_its_line(text: bytes, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_file(text, file="x.yaml")
    assert str(caught.value).startswith(message)


def test_a_bomb_of_aliases_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(RecipeError, match="holds more than 100000 values"):
        parse_file("\n".join(lines).encode(), file="x.yaml")


@given(st.binary(max_size=200))
def test_any_bytes_give_a_mapping_or_a_recipe_error(text: bytes) -> None:
    try:
        data = parse_file(text, file="x.yaml").data
    except RecipeError as error:
        data = {"place": error.file}
    assert isinstance(data, dict)
