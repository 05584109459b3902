"""From what a person types after ``weights:`` to the folder of a policy."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from openvla_toolkit.catalog.models import available_models, model_entry
from openvla_toolkit.checkpoints.layout import ADAPTER_FILE, CONFIG_FILE, checkpoints_of
from openvla_toolkit.core.errors import CheckpointError, MissingFile, UserError, did_you_mean
from openvla_toolkit.core.storage import is_partial

__all__ = ["at_hand", "locate", "shipped_policies"]

_SHIPPED = Path(__file__).parents[1] / "catalog" / "policies"
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class _Remote:
    """A model on the hub."""

    repository: str
    folder: str = ""
    files: tuple[str, ...] = ()
    """Those in the folder that make the model; empty for all that a Hugging Face model has."""


def locate(source: str | Path) -> Path:
    """Return the policy folder, or the ``.pt`` file of a training run, that ``source`` stands for.

    Tried in this order: a policy folder, an adapter's, or a training run of the original; a run folder or its
    ``checkpoints`` (the last whole checkpoint); a shipped name; a model of the catalog
    (``prism-dinosiglip+7b``); a hub id, from the hub's cache or by download (``HF_HUB_OFFLINE`` is
    respected).

    Raises:
        CheckpointError: the folder holds no whole checkpoint, or the hub refuses.
        MissingFile: nothing goes by that name.
    """
    found = _found(source)
    return _from_hub(found) if isinstance(found, _Remote) else found


def at_hand(source: str | Path) -> Path | None:
    """Return what ``locate`` would, or None where the hub would have to be asked for it.

    Raises:
        CheckpointError: the folder holds no whole checkpoint.
        MissingFile: nothing goes by that name.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    found = _found(source)
    if not isinstance(found, _Remote):
        return found
    try:
        return Path(snapshot_download(found.repository, local_files_only=True)) / found.folder
    except LocalEntryNotFoundError:
        return None


def _found(source: str | Path) -> Path | _Remote:
    path = Path(source).expanduser()
    if path.is_dir():
        return _in_folder(path)
    if path.is_file() and path.suffix == ".pt":
        return path
    shipped = shipped_policies()
    if str(source) in shipped:
        return shipped[str(source)]
    if not path.exists() and (published := _published(str(source))):
        return published
    if not path.exists() and _HUB_ID.fullmatch(str(source)):
        return _Remote(str(source))
    names = ", ".join(shipped) or "none"
    near = did_you_mean(str(source), [*shipped, *available_models()])
    raise MissingFile(
        f"no policy '{source}': no such folder, and no shipped name.{near} Shipped: {names}; "
        "'openvla models list' shows what the hub has."
    )


def shipped_policies() -> dict[str, Path]:
    """Return the policies that come with the package: name -> folder."""
    if not _SHIPPED.is_dir():
        return {}
    return {path.name: path for path in sorted(_SHIPPED.iterdir()) if (path / CONFIG_FILE).is_file()}


def _in_folder(path: Path) -> Path:
    if is_partial(path):
        raise CheckpointError(f"{path} was never finished; take a folder without '.partial' in its name.")
    if any((path / name).is_file() for name in (CONFIG_FILE, ADAPTER_FILE)):
        return path
    run = path.parent if path.name == "checkpoints" else path
    if whole := checkpoints_of(run):
        return whole[-1]
    if any((run / "checkpoints").glob("*.pt")):
        return run
    raise CheckpointError(
        f"{path} is no policy: it has neither a {CONFIG_FILE} nor a whole checkpoint (checkpoints/step-*)."
    )


def _published(name: str) -> _Remote | None:
    """Return where the hub has a model of the catalog; None when the catalog has none such."""
    try:
        entry = model_entry(name)
    except UserError:
        return None
    if entry.repository is None:
        raise MissingFile(
            f"no weights of '{name}' were released; 'openvla models describe {name}' tells more."
        )
    return _Remote(entry.repository, entry.folder, entry.files)


def _from_hub(model: _Remote) -> Path:
    """Fetch a repository's files, or some of them; ``.pt`` only where it has nothing in safetensors."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    name, other = model.repository, ["*.bin", "*.msgpack", "*.h5", "*.gguf"]
    try:
        if model.files:
            only = [f"{model.folder}/{file}".lstrip("/") for file in model.files]
            return Path(snapshot_download(name, allow_patterns=only)) / model.folder
        folder = Path(snapshot_download(name, ignore_patterns=[*other, "*.pt"]))
        if any(folder.glob("*.safetensors")):
            return folder
        return Path(snapshot_download(name, ignore_patterns=other))
    except RepositoryNotFoundError as error:
        raise MissingFile(
            f"the hub has no model '{name}', or it is private: check the name, or log in (hf auth login)."
        ) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"'{name}' is not in the hub's cache and the hub cannot be reached (offline?): connect, or "
            "download it elsewhere and give its folder."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise CheckpointError(
            f"'{name}' cannot be had from the hub: {str(error).splitlines()[0]}."
        ) from error
