"""Pictures and texts to the inputs of the model, read from and written to the originals' files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import openvla_toolkit.core.torchvision_cpu  # noqa: F401

# isort: split
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from transformers import BatchFeature, ProcessorMixin
from transformers.image_processing_utils import BaseImageProcessor

from openvla_toolkit.checkpoints.tokenizer_files import write_tokenizer
from openvla_toolkit.core.contract import FrameRecipe
from openvla_toolkit.core.errors import CheckpointError, UserError
from openvla_toolkit.policies.prismatic.images import Pixels, Steps, checked, picture_array

__all__ = ["PrismaticImageProcessor", "PrismaticProcessor"]

_CODES = {"bilinear": 2, "bicubic": 3, "lanczos": 1}
"""Interpolation as Pillow numbers it."""


class PrismaticImageProcessor(BaseImageProcessor):
    """``preprocessor_config.json`` of published checkpoints.

    The file holds every step twice: as settings (``means``, ``image_resize_strategy``) and as parameters of
    torchvision's transforms (``tvf_*``). The latter count, as in the original, although conversion rounded
    their constants to bfloat16. A letterbox pads once, with the last tower's mean, for all towers.
    """

    model_input_names = ["pixel_values"]

    def __init__(
        self,
        use_fused_vision_backbone: bool = False,
        image_resize_strategy: str = "letterbox",
        input_sizes: Sequence[Sequence[int]] | None = None,
        interpolations: Sequence[str] | None = None,
        means: Sequence[Sequence[float]] | None = None,
        stds: Sequence[Sequence[float]] | None = None,
        *,
        tvf_resize_params: Sequence[Mapping[str, Any]] | None = None,
        tvf_crop_params: Sequence[Mapping[str, Any]] | None = None,
        tvf_normalize_params: Sequence[Mapping[str, Any]] | None = None,
        tvf_do_letterbox: bool | None = None,
        tvf_letterbox_fill: Sequence[int] | None = None,
        frame: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Derive the transforms' parameters where they are not given.

        Args:
            frame: what becomes of a picture first (a ``FrameRecipe``); the original's classes pass over it.

        Raises:
            CheckpointError: a field is missing or contradicts another; names it.
        """
        self.use_fused_vision_backbone = use_fused_vision_backbone
        self.image_resize_strategy = image_resize_strategy
        self.input_sizes = [list(size) for size in input_sizes or [(3, 224, 224)]]
        towers = len(self.input_sizes)
        self.interpolations = list(interpolations or ["bicubic"] * towers)
        self.means = [list(mean) for mean in means or [(0.5, 0.5, 0.5)] * towers]
        self.stds = [list(std) for std in stds or [(0.5, 0.5, 0.5)] * towers]
        self._check_lengths()
        self.tvf_resize_params = _plain(tvf_resize_params) or self._resize_params()
        self.tvf_crop_params = _plain(tvf_crop_params) or [
            {"output_size": size[1:]} for size in self.input_sizes
        ]
        self.tvf_normalize_params = _plain(tvf_normalize_params) or [
            {"inplace": False, "mean": _rounded(mean), "std": _rounded(std)}
            for mean, std in zip(self.means, self.stds, strict=True)
        ]
        letterbox = image_resize_strategy == "letterbox"
        self.tvf_do_letterbox = letterbox if tvf_do_letterbox is None else tvf_do_letterbox
        self.tvf_letterbox_fill = None if tvf_letterbox_fill is None else list(tvf_letterbox_fill)
        if self.tvf_do_letterbox and self.tvf_letterbox_fill is None:
            self.tvf_letterbox_fill = [int(value * 255) for value in self.means[-1]]
        if frame is not None:
            self.frame = FrameRecipe.model_validate(frame).model_dump(mode="json")
        super().__init__(**kwargs)

    def steps(self) -> list[Steps]:
        """Return what is done to a picture for each tower.

        Raises:
            CheckpointError: a ``tvf_*`` field does not say it; names the field.
        """
        fill = tuple(self.tvf_letterbox_fill or ()) if self.tvf_do_letterbox else None
        try:
            return [
                Steps(
                    fill=fill,  # type: ignore[arg-type]
                    resize=size if isinstance(size := resize["size"], int) else (size[0], size[1]),
                    resampling=Image.Resampling(resize["interpolation"]),
                    crop=(crop["output_size"][0], crop["output_size"][1]),
                    mean=tuple(normalize["mean"]),
                    std=tuple(normalize["std"]),
                )
                for resize, crop, normalize in zip(
                    self.tvf_resize_params, self.tvf_crop_params, self.tvf_normalize_params, strict=True
                )
            ]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"preprocessor_config.json: the fields 'tvf_*' do not describe the same towers: {error!r}."
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return what ``preprocessor_config.json`` holds."""
        return {**super().to_dict(), "processor_class": "PrismaticProcessor"}

    def apply_transform(self, img: Image.Image) -> torch.Tensor:
        """Map one picture to pixels [3 x towers, S, S]."""
        return torch.from_numpy(Pixels(self.steps())(self._framed(img), camera="image"))

    def _framed(self, picture: Any) -> NDArray[np.uint8]:
        pixels = picture_array(picture)
        if getattr(self, "frame", None) is None:
            return pixels
        from openvla_toolkit.core.images.framing import framed  # Numba takes a quarter of a second to import

        return framed(
            checked(pixels, camera="image"),
            FrameRecipe.model_validate(self.frame),
            size=(self.input_sizes[0][1], self.input_sizes[0][2]),
        )

    def preprocess(self, images: Any, return_tensors: str | None = None, **_: Any) -> BatchFeature:
        """Map a picture, or several, to ``pixel_values`` float32 [N, 3 x towers, S, S].

        Raises:
            UserError: one is no picture.
        """
        pixels = Pixels(self.steps())
        many = images if isinstance(images, (list, tuple)) else [images]
        stacked = np.stack([pixels(self._framed(image), camera="image") for image in many])
        return BatchFeature(data={"pixel_values": stacked}, tensor_type=return_tensors)

    def _resize_params(self) -> list[dict[str, Any]]:
        naive = self.image_resize_strategy == "resize-naive"
        return [
            {
                "antialias": True,
                "interpolation": _CODES[interpolation],
                "max_size": None,
                "size": size[1:] if naive else size[-1],
            }
            for size, interpolation in zip(self.input_sizes, self.interpolations, strict=True)
        ]

    def _check_lengths(self) -> None:
        if self.image_resize_strategy not in ("resize-naive", "resize-crop", "letterbox"):
            raise CheckpointError(
                f"preprocessor_config.json: 'image_resize_strategy' is {self.image_resize_strategy!r}; "
                "expected resize-naive, resize-crop or letterbox."
            )
        towers = len(self.input_sizes)
        for field in ("interpolations", "means", "stds"):
            if len(getattr(self, field)) != towers:
                raise CheckpointError(
                    f"preprocessor_config.json: '{field}' has {len(getattr(self, field))} entries for "
                    f"{towers} 'input_sizes'."
                )
        if unknown := [name for name in self.interpolations if name not in _CODES]:
            raise CheckpointError(
                f"preprocessor_config.json: 'interpolations' has {unknown[0]!r}; "
                f"expected {', '.join(_CODES)}."
            )


class PrismaticProcessor(ProcessorMixin):
    """Image processor and tokenizer in one."""

    if int(transformers.__version__.partition(".")[0]) < 5:  # later releases read the signature
        attributes = ["image_processor", "tokenizer"]
        image_processor_class = "AutoImageProcessor"
        tokenizer_class = "AutoTokenizer"

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, **kwargs: Any) -> None:
        super().__init__(image_processor, tokenizer, **kwargs)

    def __call__(
        self,
        text: str | Sequence[str],
        images: Any,
        padding: bool | str = False,
        truncation: bool | str | None = None,
        max_length: int | None = None,
        return_tensors: str | None = "pt",
    ) -> BatchFeature:
        """Return ``input_ids`` and ``attention_mask`` [B, L], and ``pixel_values`` of as many pictures.

        Raises:
            UserError: there are not as many texts as pictures, or they differ in length and are not padded.
        """
        pixels = self.image_processor(images, return_tensors=return_tensors)["pixel_values"]
        try:
            words = self.tokenizer(
                text if isinstance(text, str) else list(text),
                return_tensors=return_tensors,
                padding=padding,
                truncation=truncation,
                max_length=max_length,
            )
        except (ValueError, TypeError) as error:  # the tokenizer's words for both: rows of different lengths
            raise UserError(
                "the texts do not become one array of ids: each must be a str, and several of different "
                f"lengths need 'padding=True' ({str(error).splitlines()[0]})."
            ) from error
        texts = 1 if isinstance(text, str) else len(text)
        if len(pixels) != texts:
            raise UserError(
                f"{texts} texts and {len(pixels)} pictures were given; one picture per text is needed."
            )
        return BatchFeature(
            data={
                "input_ids": words["input_ids"],
                "attention_mask": words["attention_mask"],
                "pixel_values": pixels,
            }
        )

    def save_pretrained(self, save_directory: str | Path) -> None:  # type: ignore[override]
        """Write the originals' files: ``preprocessor_config.json`` and the tokenizer's."""
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        self.image_processor.save_pretrained(folder)
        longest = self.tokenizer.model_max_length
        write_tokenizer(self.tokenizer, folder, max_length=longest, processor=True)

    def batch_decode(self, *args: Any, **kwargs: Any) -> list[str]:
        """Return the texts of many rows of ids: the tokenizer's ``batch_decode``."""
        return self.tokenizer.batch_decode(*args, **kwargs)  # type: ignore[no-any-return]

    def decode(self, *args: Any, **kwargs: Any) -> str:
        """Return the text of one row of ids: the tokenizer's ``decode``."""
        return self.tokenizer.decode(*args, **kwargs)  # type: ignore[no-any-return]

    @property
    def model_input_names(self) -> list[str]:
        """Return the names of what the model is given."""
        return ["input_ids", "attention_mask", *self.image_processor.model_input_names]


def _plain(entries: Sequence[Mapping[str, Any]] | None) -> list[dict[str, Any]] | None:
    return None if entries is None else [dict(entry) for entry in entries]


def _rounded(values: Sequence[float]) -> list[float]:
    """Return constants as torch's transforms keep them: float32."""
    return [float(np.float32(value)) for value in values]
