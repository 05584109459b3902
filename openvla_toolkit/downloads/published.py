"""What the catalog knows of where data sets are published."""

from __future__ import annotations

from dataclasses import dataclass

from openvla_toolkit.catalog.tables import table
from openvla_toolkit.core.errors import UserError, did_you_mean

__all__ = ["Published", "members", "published", "published_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One data set as it is offered."""

    name: str
    """The toolkit's name, which becomes the folder's."""
    place: str
    """The address below which lie ``<folder>/<version>``."""
    folder: str
    version: str | None
    """The version that is fetched unless another is asked for; None for the newest."""
    note: str = ""


def published_names() -> list[str]:
    """Return the names of the data sets that can be fetched."""
    return [name for name, row in table("downloads")["sets"].items() if "place" in row]


def members(name: str) -> list[str]:
    """Return the data sets of a mixture of the catalog; a name that is none stands for itself."""
    return [row["dataset"] for row in table("mixtures").get(name, [{"dataset": name}])]


def published(name: str, *, source: str | None = None) -> Published:
    """Look a data set up; ``source`` is another address below which it lies, where any name will do.

    Raises:
        UserError: no such data set is known, it is not published, or not at that address.
    """
    rows, places = table("downloads")["sets"], table("downloads")["places"]
    if source is not None and name not in rows:
        return Published(name=name, place=source, folder=name, version=None)
    if name not in rows:
        raise UserError(
            f"no published data set is named '{name}'.{did_you_mean(name, rows)} "
            "'openvla data download' without a name lists them."
        )
    row = rows[name]
    if source is None and "unavailable" in row:
        raise UserError(f"'{name}' cannot be downloaded. {row['unavailable']}")
    place = places.get(row.get("place"))
    if source is not None and source.rstrip("/") in _aliases(places["open-x"]) and place != places["open-x"]:
        where = f"It is published at {place}: leave --source out." if place else row["unavailable"]
        raise UserError(f"the bucket of Open X-Embodiment does not hold '{name}'. {where}")
    return Published(
        name=name,
        place=place if source is None else source,
        folder=row.get("folder", name),
        version=row.get("version"),
        note=row.get("note", ""),
    )


def _aliases(bucket: str) -> tuple[str, str]:
    return bucket, bucket.replace("https://storage.googleapis.com/", "gs://")
