"""Where patches stand in a batch of texts, padded on either side and with or without pictures.

Shape legend: B rows, M rows with pictures, L text positions, P patches, D width of the language model.

A row with a picture has its patches right after its first real token. A row without one gets P places of
padding in front of it, so that text position t >= 1 stands at P + t in every row, and the last position of
every row is text. (The original puts that padding behind the text and the rows without pictures last, which
changes no loss.)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from openvla_toolkit.core.errors import UserError
from openvla_toolkit.core.types import IGNORED
from openvla_toolkit.policies.prismatic.model import splice

__all__ = ["Layout", "left_padded", "picture_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The places of P patches in B rows."""

    patches: int
    rows: Tensor | None
    """[M] rows with pictures, ascending; None for all."""
    starts: Tensor | None
    """[B] place of each row's first real token; None where it is the first place of all."""

    def embeddings(self, text: Tensor, features: Tensor) -> Tensor:
        """Lay patches [M, P, D] into texts [B, L, D]; return [B, P + L, D]."""
        if self.rows is None:
            return splice(text, features, self.starts)
        mixed = F.pad(text, (0, 0, self.patches, 0))
        mixed[self.rows] = splice(text[self.rows], features, self._starts()).to(mixed.dtype)
        return mixed

    def values(self, text: Tensor, *, patch: int, padding: int) -> Tensor:
        """Lay ``patch`` into integers [B, L] where patches stand, ``padding`` where nothing does."""
        filler = text.new_full((len(text), self.patches, 1), patch)
        if self.rows is None:
            return splice(text[..., None], filler, self.starts)[..., 0]
        mixed = F.pad(text, (self.patches, 0), value=padding)
        rows = self.rows
        mixed[rows] = splice(text[rows][..., None], filler[rows], self._starts())[..., 0]
        return mixed

    def labels(self, text: Tensor) -> Tensor:
        """Lay labels [B, L]; a row's first token is never one, for nothing stands before it."""
        first = torch.zeros_like(text[:, :1]) if self.starts is None else self.starts[:, None]
        return self.values(text.scatter(1, first, IGNORED), patch=IGNORED, padding=IGNORED)

    def _starts(self) -> Tensor | None:
        return self.starts if self.starts is None or self.rows is None else self.starts[self.rows]

    @classmethod
    def of(cls, *, patches: int, rows: Tensor | None, attention_mask: Tensor | None) -> Layout:
        """Find each row's first real token in an attention mask [B, L]."""
        starts = None if attention_mask is None else (attention_mask != 0).int().argmax(dim=1)
        padded = starts is not None and bool(starts.any())
        return cls(patches=patches, rows=rows, starts=starts if padded else None)


def picture_rows(given: Tensor | None, *, count: int) -> Tensor | None:
    """Return the rows with pictures, ascending; None for all ``count`` of them.

    Args:
        given: their numbers, or a boolean per row; None for all.

    Raises:
        UserError: a number is no row.
    """
    if given is None:
        return None
    rows = given.nonzero()[:, 0] if given.dtype == torch.bool else given.long()
    if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < count:
        raise UserError(f"multimodal_indices is {rows.tolist()}; the batch has rows 0 to {count - 1}.")
    if len(rows) == count and torch.equal(rows, torch.arange(count, device=rows.device)):
        return None
    return rows


def left_padded(input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Move padding on the right of ids [B, L] and their mask to the left, where decoding needs it."""
    behind = attention_mask.flip(1).argmax(dim=1)
    if not bool(behind.any()):
        return input_ids, attention_mask
    length = input_ids.shape[1]
    source = (torch.arange(length, device=input_ids.device)[None] - behind[:, None]) % length
    return input_ids.gather(1, source), attention_mask.gather(1, source)
