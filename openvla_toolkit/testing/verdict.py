"""What every check begins with: how a verdict is worded, and that the settings are sound."""

from __future__ import annotations

from contextlib import ExitStack

from pydantic import ValidationError

from openvla_toolkit.core.component import ComponentConfig
from openvla_toolkit.core.registry import find, installed

__all__ = ["check_settings", "expect"]

_FAKES = (
    ("embodiment", "dots-robot", "openvla_toolkit.testing.fakes.dots:DotsRobotConfig"),
    ("environment", "dots", "openvla_toolkit.testing.fakes.dots:DotsConfig"),
    ("dataset", "dots-episodes", "openvla_toolkit.testing.fakes.dots:DotsEpisodesConfig"),
    ("policy", "dots-linear", "openvla_toolkit.testing.fakes.linear:LinearPolicyConfig"),
)


def expect(holds: bool, config: ComponentConfig, *, expected: str, found: object) -> None:  # noqa: FBT001 - reads like assert
    """Raise AssertionError ``<kind> '<name>': expected ..., found ...`` unless ``holds``."""
    if not holds:
        raise AssertionError(f"{config.kind} '{config.name}': expected {expected}, found {found}.")


def check_settings(config: ComponentConfig, base: type[ComponentConfig]) -> None:
    """Check that the settings are of their kind, say what they are, and survive the way into a lock file."""
    kind = type(config)
    if not isinstance(config, base):
        raise AssertionError(
            f"{kind.__name__}: expected a subclass of {base.__name__}, found {kind.__mro__[1]}."
        )
    default = kind.model_fields["name"].default
    expect(
        default == config.name, config, expected="its own name as the default of 'name'", found=repr(default)
    )
    expect(
        bool(kind.__doc__),
        config,
        expected=f"a docstring on {kind.__name__}, for `openvla plugins`",
        found="none",
    )
    plain = config.model_dump(mode="json")
    with ExitStack() as stack:
        for fake_kind, name, target in _FAKES:
            if name not in find(fake_kind):  # a component may be given a fake to work with
                stack.enter_context(installed(fake_kind, name, target))
        try:
            again = kind.model_validate(plain)
        except ValidationError as error:
            label = f"{config.kind} '{config.name}'"
            raise AssertionError(f"{label}: expected settings that JSON keeps, found {error}") from error
    expect(again == config, config, expected=f"the same settings after JSON, {config!r}", found=repr(again))
