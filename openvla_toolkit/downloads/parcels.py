"""What belongs to a data set: its description, and the shards that this names."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from openvla_toolkit.core.errors import DownloadError, MissingFile, UserError
from openvla_toolkit.downloads.addresses import source_at
from openvla_toolkit.downloads.published import Published, published
from openvla_toolkit.downloads.sources import RemoteFile, Source
from openvla_toolkit.downloads.transfer import held, patiently

__all__ = ["INFO", "Order", "Parcel", "pack"]

INFO = "dataset_info.json"
TEXTS = {INFO: True, "features.json": True, "openvla.yaml": False}
"""The files that describe a data set, and whether there must be one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted, and where it is to lie."""

    name: str
    to: Path
    """The folder that holds data sets."""
    version: str | None = None
    shards: int | None = None
    """Only so many shards of every split, from the first on."""
    source: str | None = None
    """An address to fetch from, instead of where the data set is published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What is fetched of one split."""

    episodes: int
    of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """One version of one data set, every file known by size."""

    name: str
    version: str
    place: str
    """The address of the source."""
    inside: str
    """Where it lies there."""
    folder: Path
    """Where it will lie here."""
    files: Sequence[RemoteFile]
    texts: Mapping[str, bytes]
    """The files that describe it; they are written last, so that what is not whole is not taken for whole."""
    splits: Mapping[str, Taken]
    note: str

    @property
    def size(self) -> int:
        """Bytes of all its shards."""
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> int:
        """Bytes that are still to be fetched."""
        return self.size - sum(held(file, self.folder) for file in self.files)

    @property
    def checked(self) -> bool:
        """Whether the source gives a checksum of every file."""
        return all(file.crc32c is not None or file.md5 is not None for file in self.files)

    @property
    def whole(self) -> bool:
        """Whether every episode of the data set is in it."""
        return all(taken.episodes == taken.of for taken in self.splits.values())


def pack(order: Order) -> Parcel:
    """Find out what has to be fetched; nothing is written.

    Raises:
        UserError: the data set or version is not known or not published, or cannot be read.
        MissingFile: the source has not all that belongs to it.
        DownloadError: the source does not answer.
    """
    offer = published(order.name, source=order.source)
    source = source_at(offer.place)
    folder, version = _find(source, offer, order.version)
    inside = f"{folder}/{version}"
    texts = _texts(source, inside)
    where = f"{offer.place}/{inside}/{INFO}"
    names, splits = _shards(texts[INFO], where, order.shards)
    target = order.to / order.name / version
    if (target / INFO).exists() and (target / INFO).read_bytes() != texts[INFO]:
        raise UserError(f"{target} holds another data set: remove it, or choose another folder with --to.")
    return Parcel(
        name=order.name,
        version=version,
        place=offer.place,
        inside=inside,
        folder=target,
        files=patiently(partial(source.files, inside, names)),
        texts=texts,
        splits=splits,
        note=offer.note,
    )


def _find(source: Source, offer: Published, version: str | None) -> tuple[str, str]:
    """Return folder and version that are there; a mirror may have the toolkit's name of a data set."""
    folders = list(dict.fromkeys([offer.folder, offer.name]))
    for folder in folders:
        found = version or offer.version or next(reversed(patiently(partial(source.versions, folder))), None)
        if found is not None and _exists(source, f"{folder}/{found}"):
            return folder, found
    wanted = version or offer.version
    known = {one for folder in folders for one in patiently(partial(source.versions, folder))}
    there = f" There are: {', '.join(sorted(known))}." if known else ""
    raise UserError(
        f"{offer.place}/{offer.folder} has no version {wanted}.{there or ' Give --version.'}"
        if wanted
        else f"{offer.place} holds no data set '{offer.folder}'; where it is a web server, give --version."
    )


def _texts(source: Source, inside: str) -> dict[str, bytes]:
    texts: dict[str, bytes] = {}
    for name, needed in TEXTS.items():
        try:
            texts[name] = patiently(partial(source.read, inside, name))
        except MissingFile:
            if needed:
                raise
    return texts


def _exists(source: Source, inside: str) -> bool:
    try:
        patiently(partial(source.read, inside, INFO))
    except MissingFile:
        return False
    return True


def _shards(text: bytes, where: str, count: int | None) -> tuple[list[str], dict[str, Taken]]:
    """Return the names of the shards that are wanted, and what they hold of every split."""
    try:
        content: Mapping[str, Any] = json.loads(text)
        kind = str(content.get("fileFormat", "tfrecord"))
        splits = [(str(one["name"]), one, [int(n) for n in one["shardLengths"]]) for one in content["splits"]]
        name = str(content["name"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DownloadError(f"{where} is not as TFDS writes it: {type(error).__name__} {error}.") from error
    if kind != "tfrecord":
        raise UserError(f"{where}: the files are {kind}; only tfrecord is read. Choose another --version.")
    names: list[str] = []
    taken: dict[str, Taken] = {}
    for split, about, lengths in splits:
        template = about.get("filepathTemplate") or "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        wanted = lengths[:count]
        for number in range(len(wanted)):
            index, total = f"{number:05d}", f"{len(lengths):05d}"
            names.append(
                template.format(
                    DATASET=name, SPLIT=split, FILEFORMAT=kind, SHARD_INDEX=index, NUM_SHARDS=total,
                    SHARD_X_OF_Y=f"{index}-of-{total}",
                )
            )  # fmt: skip
        taken[split] = Taken(episodes=sum(wanted), of=sum(lengths))
    if astray := [name for name in names if {"", ".", ".."} & set(name.split("/"))]:
        raise DownloadError(f"{where} names the shard '{astray[0]}', which lies outside of its folder.")
    return names, taken
