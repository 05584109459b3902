"""From a source to a policy in memory, whatever kind of policy it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from openvla_toolkit.checkpoints.layout import BLOCK, CONFIG_FILE
from openvla_toolkit.checkpoints.locate import locate
from openvla_toolkit.core.devices import usable_device
from openvla_toolkit.core.errors import CheckpointError, UserError
from openvla_toolkit.core.registry import load
from openvla_toolkit.interfaces.policy import Policy, PolicyConfig

__all__ = ["BLOCK", "load_policy", "policy_block", "read_settings"]


def load_policy(
    source: str | Path,
    *,
    device: str = "cpu",
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    **settings: Any,
) -> Policy:
    """Load a policy from a folder, a run, an adapter, a name (``tabletop-tiny``) or a hub id.

    Args:
        device: where the parameters go (``cpu``, ``cuda``, ``cuda:1``).
        dtype: their number type in memory.
        settings: further settings of the policy, such as ``attention``, ``quantization``, ``prompt`` or
            ``head``; what the checkpoint states itself cannot be changed.

    Raises:
        MissingFile: nothing goes by that name.
        CheckpointError: the checkpoint is damaged, or does not fit its or the given settings.
        UnknownComponent: a component it was made with is not installed.
        UserError: the policy has no such setting, or the device is not there.
    """
    place = locate(source)
    stored = read_settings(place, base=settings.get("base"), tokenizer=settings.get("tokenizer"))
    given = _validated(type(stored), {"weights": str(place), "dtype": dtype, **settings})
    config = stored.model_copy(update={key: getattr(given, key) for key in given.model_fields_set})
    target = usable_device(device, setting="device")  # said before gigabytes are read
    policy: Policy = config.build()
    policy.module.to(target)
    policy.module.eval()
    return policy


def read_settings(
    place: Path, *, base: str | Path | None = None, tokenizer: str | None = None
) -> PolicyConfig:
    """Read the settings that the policy in a folder was made with.

    Args:
        base: what an adapter is put on; None takes what it was trained on.
        tokenizer: a folder or hub id in place of the checkpoint's own.

    Raises:
        CheckpointError: there are none, or they are damaged.
    """
    from openvla_toolkit.checkpoints.formats.content import field, read_json
    from openvla_toolkit.checkpoints.formats.plain import is_own
    from openvla_toolkit.checkpoints.formats.reading import read_content

    file = place / CONFIG_FILE
    if file.is_file() and is_own(place):
        settings = field(read_json(file), f"{BLOCK}.policy", dict, place=file)
    else:
        settings = dict(read_content(place, base=base, tokenizer=tokenizer).policy)
    kind: Any = load("policy", field(settings, "name", str, place=f"{file}: {BLOCK}.policy"))
    try:
        return kind.model_validate({"weights": str(place), **settings})  # type: ignore[no-any-return]
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        raise CheckpointError(f"{file}: {BLOCK}.policy.{where}: {problem['msg']}.") from error


def policy_block(config: PolicyConfig) -> dict[str, Any]:
    """Return what ``read_settings`` reads back, to be stored under ``BLOCK``."""
    from openvla_toolkit import __version__

    return {"version": __version__, "policy": config.model_dump(mode="json", exclude={*config.execution})}


def _validated(kind: type[PolicyConfig], settings: dict[str, Any]) -> PolicyConfig:
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"])) or kind.__name__
        raise UserError(f"cannot load with '{where}': {problem['msg']}.") from error
