"""``openvla predict``: one action for one picture and one instruction."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from openvla_toolkit.core.errors import ContractMismatch, MissingFile, UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from openvla_toolkit.core.types import ActionChunk
    from openvla_toolkit.interfaces.policy import Policy

__all__ = ["command"]


@click.command()
@click.argument("checkpoint")
@click.option(
    "--image",
    "images",
    multiple=True,
    required=True,
    metavar="[CAMERA=]FILE",
    help="The picture; with several cameras once for each, CAMERA= in front.",
)
@click.option("--instruction", required=True, help="What the robot is told to do.")
@click.option("--unnorm-key", metavar="KEY", help="The data set whose statistics scale the action.")
@click.option("--device", default="cpu", show_default=True, help="Where the policy runs: cpu, cuda, cuda:1.")
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Number type of the parameters.",
)
@click.option("--quantization", type=click.Choice(["8bit", "4bit"]), help="Keep the language model small.")
@click.option("--tokenizer", metavar="SOURCE", help="Folder or hub id, for a training run that brings none.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    *,
    checkpoint: str,
    images: tuple[str, ...],
    instruction: str,
    unnorm_key: str | None,
    device: str,
    dtype: str,
    quantization: str | None,
    tokenizer: str | None,
    as_json: bool,
) -> None:
    """Print the action that the policy CHECKPOINT (a folder, a shipped name or a hub id) takes."""
    pictures = [_picture(given) for given in images]  # a wrong file is said before gigabytes are read
    from openvla_toolkit.checkpoints.load import load_policy
    from openvla_toolkit.core.types import Observation

    settings = {"quantization": quantization, "tokenizer": tokenizer}
    given = {key: value for key, value in settings.items() if value is not None}
    policy = load_policy(checkpoint, device=device, dtype=dtype, **given)  # type: ignore[arg-type]
    observation = Observation(images=_by_camera(pictures, policy.contract.cameras), instruction=instruction)
    (chunk,) = policy.predict_chunks([observation], unnorm_key=unnorm_key)
    if as_json:
        click.echo(json.dumps(_record(chunk), indent=2))
    else:
        click.echo("\n".join(_lines(chunk, policy)))


def _picture(given: str) -> tuple[str | None, NDArray[np.uint8]]:
    """Read ``FILE`` or ``CAMERA=FILE`` as RGB [height, width, 3]."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    camera, sign, name = given.partition("=")
    if not sign or Path(given).is_file():
        camera, name = "", given
    try:
        with Image.open(name) as image:
            return camera or None, np.asarray(image.convert("RGB"))
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is no picture that Pillow can read (PNG, JPEG, ...).") from error
    except FileNotFoundError as error:
        raise MissingFile(f"there is no picture {name}.") from error
    except OSError as error:
        raise UserError(f"the picture {name} cannot be read: {error}.") from error


def _by_camera(
    pictures: Sequence[tuple[str | None, NDArray[np.uint8]]], cameras: Sequence[str]
) -> dict[str, NDArray[np.uint8]]:
    named = {camera or cameras[0]: pixels for camera, pixels in pictures}
    unnamed = [camera for camera, _ in pictures if camera is None]
    if set(named) != set(cameras) or len(named) != len(pictures) or (unnamed and len(cameras) > 1):
        wanted = " ".join(f"--image {camera}=FILE" for camera in cameras)
        raise ContractMismatch(f"the policy looks at {len(cameras)} camera(s): give {wanted}.")
    return named


def _record(chunk: ActionChunk) -> dict[str, Any]:
    tokens = None if chunk.tokens is None else chunk.tokens.tolist()
    return {"actions": chunk.actions.tolist(), "tokens": tokens}


def _lines(chunk: ActionChunk, policy: Policy) -> Iterator[str]:
    """Write each action of the chunk, one number per line, named where the robot is known."""
    robot = policy.contract.robot.action
    labels = [f"{one.name} ({one.unit})" for one in robot]
    if len(labels) != chunk.actions.shape[-1]:
        labels = [str(number) for number in range(chunk.actions.shape[-1])]
    width = max(map(len, labels))
    for number, action in enumerate(chunk.actions):
        if len(chunk.actions) > 1:
            yield f"step {number + 1}:"
        yield from (f"{label:{width}}  {value: .6f}" for label, value in zip(labels, action, strict=True))
