"""Every installed component keeps to its interface; a new one is tested as soon as it is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import openvla_toolkit.interfaces
from openvla_toolkit import testing
from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import KINDS, find, load

COMPONENTS = [(kind, name) for kind in KINDS for name in sorted(find(kind))]
INTERFACES = sorted(path.stem for path in Path(openvla_toolkit.interfaces.__file__).parent.glob("[a-z]*.py"))


def check_of(kind: str) -> Callable[..., None]:
    check = getattr(testing, f"check_{kind}", None)
    if check is None:
        pytest.fail(f"openvla_toolkit.testing has no check_{kind}: an interface needs its contract check.")
    return check


def configured(kind: str, name: str, settings: Mapping[str, Any]) -> ComponentConfig:
    try:
        return load(kind, name).model_validate(settings)
    except ValidationError as error:
        pytest.fail(f"{kind} '{name}' needs other settings than {settings}; add them to SETTINGS: {error}")


@pytest.mark.parametrize(("kind", "name"), COMPONENTS)
def test_an_installed_component_keeps_to_its_interface(
    kind: str, name: str, settings: Mapping[str, Any]
) -> None:
    check_of(kind)(configured(kind, name, settings))


@pytest.mark.parametrize("kind", INTERFACES)
def test_every_interface_has_a_check_that_says_what_it_checks(kind: str) -> None:
    assert "Checked:" in (check_of(kind).__doc__ or "")


def test_a_component_that_needs_settings_and_has_none_is_a_clear_failure() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"dataset 'rlds' .* add them to SETTINGS"):
        configured("dataset", "rlds", {})


def test_a_kind_without_a_check_is_a_clear_failure() -> None:
    with pytest.raises(pytest.fail.Exception, match="has no check_exporter"):
        check_of("exporter")
