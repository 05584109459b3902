"""The one base class of all settings."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

__all__ = ["ComponentConfig", "Section", "bare_name"]


class Section(BaseModel):
    """A group of settings: frozen, unknown keys forbidden, documented by the string under each field.

    ``core.describe.field_docs`` reads these strings when somebody asks for them; pydantic would parse the
    source of every class at every start.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        ser_json_inf_nan="strings",
        protected_namespaces=(),
    )


class ComponentConfig(Section):
    """Settings of one component; ``build`` makes the component and imports what is heavy.

    A subclass per kind (``openvla_toolkit.interfaces``) sets ``kind``; a subclass per component sets
    ``name`` to a ``Literal`` with its own name as default. The signature of ``build`` belongs to the kind.
    """

    kind: ClassVar[str]
    name: str

    def build(self, *args: Any, **kwargs: Any) -> Any:
        """Make the component that these settings describe."""
        raise TypeError(f"{type(self).__name__} does not define build().")


def bare_name(value: object) -> object:
    """Turn a bare text into ``{name: text}``; leave everything else to pydantic."""
    return {"name": value} if isinstance(value, str) else value
