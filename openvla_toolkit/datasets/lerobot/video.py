"""Frames of videos by number: the one place that knows PyAV.

A frame is addressed by an integer: number k is the one shown at k / fps seconds. Seconds as floats are never
compared for equality, so long files do not drift.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from openvla_toolkit.core.errors import DataError, MissingDependency, MissingFile

try:
    import av
    from av.video.reformatter import VideoReformatter
except ModuleNotFoundError as error:
    raise MissingDependency("video", "av", install="openvla-toolkit[lerobot]") from error

__all__ = ["Decoder", "encode_video", "read_frame"]

OPEN_DECODERS = 16
"""Per process; each holds a file and the decoder's few reference frames."""


class Decoder:
    """One open video file; frames in any order, forwards without seeking."""

    def __init__(self, path: Path, *, fps: float) -> None:
        self._path, self._fps = path, fps
        with _reading(path):
            # PyAV's threads would outnumber the cores: loaders run one process per core.
            self._container: Any = av.open(str(path))
            if not self._container.streams.video:
                raise DataError("it holds no video stream.", file=path)
            self._stream: Any = self._container.streams.video[0]
            self._stream.thread_type = "NONE"
            # dav1d would ask for two more packets before it hands out a frame that is ready.
            self._stream.codec_context.options = {"max_frame_delay": "1"}
            packets = [packet for packet in self._container.demux(self._stream) if packet.pts is not None]
        self._times = np.sort(np.array([packet.pts for packet in packets], dtype=np.int64))
        self._keys = np.sort(np.array([packet.pts for packet in packets if packet.is_keyframe], np.int64))
        self._frames: Iterator[Any] | None = None
        self._next = 0
        # Setting up a conversion takes ten times as long as converting a small frame: one is kept.
        self._reformatter = VideoReformatter()

    def __len__(self) -> int:
        return len(self._times)

    def frame(self, number: int) -> NDArray[np.uint8]:
        """Return the picture at ``number`` / fps seconds: RGB uint8 [height, width, 3].

        Raises:
            DataError: the file ends before, shows another moment there, or is damaged.
        """
        if not 0 <= number < len(self):
            raise DataError(
                f"the video has {len(self)} frames, expected at least {number + 1}: "
                "it is truncated or not the one that the meta data describe; copy or download it again.",
                file=self._path,
                frame=number,
            )
        moment = int(self._times[number])
        shown = float(moment * self._stream.time_base)
        if abs(shown - number / self._fps) >= 0.5 / self._fps:
            raise DataError(
                f"the frame is shown at {shown:.4f} s, expected {number / self._fps:.4f} s "
                f"({self._fps:g} frames per second): frames are missing, or the rate is another.",
                file=self._path,
                frame=number,
            )
        with _reading(self._path, frame=number):
            return self._decoded(number, moment)

    def _decoded(self, number: int, moment: int) -> NDArray[np.uint8]:
        if self._frames is None or not self._is_ahead(number, moment):
            self._container.seek(moment, stream=self._stream)
            self._frames = self._container.decode(self._stream)
        self._next = number + 1
        for frame in self._frames:
            if frame.pts == moment:
                converted: Any = self._reformatter.reformat(frame, format="rgb24")
                pixels: NDArray[np.uint8] = converted.to_ndarray()
                return pixels
            if frame.pts is not None and frame.pts > moment:
                break
        self._frames = None
        raise DataError(
            "the frame cannot be decoded; copy or download the file again.", file=self._path, frame=number
        )

    def _is_ahead(self, number: int, moment: int) -> bool:
        """Tell whether decoding on reaches the frame sooner than seeking to its keyframe."""
        gap = number - self._next
        if gap < 0:
            return False
        before = np.searchsorted(self._keys, moment, side="right")
        keyframe = self._keys[before - 1] if before else self._times[0]
        return bool(keyframe <= self._times[min(self._next, len(self) - 1)]) or gap == 0

    def close(self) -> None:
        """Close the file."""
        self._frames = None
        self._container.close()


_decoders: OrderedDict[tuple[Path, float], Decoder] = OrderedDict()
_lock = threading.RLock()
_owner = os.getpid()


def read_frame(path: Path, number: int, *, fps: float) -> NDArray[np.uint8]:
    """Return one frame; the most recently used files stay open.

    Raises:
        MissingFile: the file does not exist.
        DataError: see ``Decoder.frame``.
    """
    global _owner
    with _lock:
        if _owner != os.getpid():
            # A forked child shares file positions with its parent: it opens its own.
            _decoders.clear()
            _owner = os.getpid()
        decoder = _decoders.pop((path, fps), None) or Decoder(path, fps=fps)
        _decoders[path, fps] = decoder
        while len(_decoders) > OPEN_DECODERS:
            _decoders.popitem(last=False)[1].close()
        return decoder.frame(number)


def encode_video(
    path: Path, frames: Iterator[NDArray[np.uint8]], *, fps: float, codec: str, options: dict[str, str]
) -> int:
    """Write RGB frames [height, width, 3] as yuv420p at k / fps seconds; return how many.

    Raises:
        DataError: there is no frame, they differ in size, or a side is odd (yuv420p halves both).
    """
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder would print its settings for every file
    rate = Fraction(fps).limit_denominator(1001)
    count, stream = 0, None
    with av.open(str(path), "w") as container:
        try:
            for count, pixels in enumerate(frames, start=1):
                height, width = pixels.shape[:2]
                if stream is None:
                    if height % 2 or width % 2:
                        raise DataError(
                            f"pictures of {width} x {height} cannot be a video: both sides must be even. "
                            "Write pictures as images instead.",
                            file=path,
                        )
                    stream = container.add_stream(codec, rate=rate, options=options)
                    stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
                    stream.time_base = stream.codec_context.time_base = 1 / rate
                if (stream.height, stream.width) != (height, width):
                    raise DataError(
                        f"a picture is {width} x {height}, the first {stream.width} x {stream.height}.",
                        file=path,
                        frame=count - 1,
                    )
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame.pts = count - 1
                container.mux(stream.encode(frame))
        finally:
            if stream is not None:  # also where frames end in an error: the encoder complains otherwise
                container.mux(stream.encode())
        if stream is None:
            raise DataError("there is no frame to write.", file=path)
    return count


@contextmanager
def _reading(path: Path, frame: int | None = None) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise MissingFile(
            f"{path} does not exist: the data set is incomplete; copy or download it again."
        ) from None
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"the video cannot be decoded: {error}; copy or download it again.", file=path, frame=frame
        ) from error
