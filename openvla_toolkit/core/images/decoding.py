"""Encoded images to pixels: the one decoder of data, evaluation and serving.

Unlike most of ``core`` this module needs NumPy; light commands do not import it.
"""

from __future__ import annotations

import io
from typing import Literal

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from openvla_toolkit.core.errors import DataError
from openvla_toolkit.core.types import EncodedImage

__all__ = ["decode"]


def decode(encoded: EncodedImage, *, dct: Literal["accurate", "fast"] = "accurate") -> NDArray[np.uint8]:
    """Return RGB pixels uint8 [height, width, 3] of JPEG or PNG bytes; pixels pass through.

    JPEG goes through libjpeg-turbo. Its accurate cosine transform gives the bits that Pillow gives; the fast
    one, which is no faster today and up to some 16 levels off, those of TensorFlow as it is commonly used:
    what OpenVLA was trained on.

    Raises:
        DataError: the bytes are no image, or a damaged one.
    """
    if isinstance(encoded, np.ndarray):
        return encoded
    try:
        if encoded[:2] == b"\xff\xd8":
            pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
                encoded, colorspace="RGB", fastdct=dct == "fast"
            )
            return pixels
        with Image.open(io.BytesIO(encoded)) as picture:
            return np.asarray(picture.convert("RGB"))
    except (ValueError, OSError, UnidentifiedImageError) as error:
        start = encoded[:8].hex(" ") or "nothing"
        raise DataError(f"cannot decode {len(encoded)} bytes that begin with {start}: {error}.") from error
