"""``openvla models``: what there is, and checkpoints converted and compared."""

from __future__ import annotations

import json
from pathlib import Path

import click

__all__ = ["command"]

_DTYPES = click.Choice(["float32", "bfloat16", "float16"])


@click.group()
def command() -> None:
    """List published models, describe one, convert checkpoints and verify them."""


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def _list(*, as_json: bool) -> None:
    """List the models that 'load_policy' takes by name."""
    from openvla_toolkit.catalog.listing import listed, listing_page
    from openvla_toolkit.checkpoints.locate import shipped_policies

    if as_json:
        click.echo(json.dumps(listed(), indent=2))
    else:
        click.echo(listing_page(shipped=list(shipped_policies())))


@command.command("describe")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def _describe(*, name: str, as_json: bool) -> None:
    """Say what the model NAME is made of and was trained with."""
    from openvla_toolkit.catalog.listing import described, description_page

    click.echo(json.dumps(described(name), indent=2) if as_json else description_page(name))


@command.command("convert")
@click.argument("source")
@click.argument("target", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    type=click.Choice(["hf", "prismatic"]),
    required=True,
    help="A Hugging Face folder, or a training run of the original.",
)
@click.option("--dtype", type=_DTYPES, help="Number type on disk; for hf bfloat16 unless given.")
@click.option(
    "--exact", is_flag=True, help="Keep a training run's own numbers, which the original's converter changes."
)
@click.option("--base", metavar="SOURCE", help="What an adapter is put on.")
@click.option("--tokenizer", metavar="SOURCE", help="Folder or hub id, for a run that brings none.")
def _convert(
    *,
    source: str,
    target: Path,
    form: str,
    dtype: str | None,
    exact: bool,
    base: str | None,
    tokenizer: str | None,
) -> None:
    """Write the checkpoint SOURCE (folder, run, .pt file, adapter or hub id) to TARGET in another format."""
    from openvla_toolkit.checkpoints import convert as conversion

    content = conversion.convert(
        source,
        target,
        to=form,  # type: ignore[arg-type]
        dtype=dtype,  # type: ignore[arg-type]
        exact=exact,
        base=base,
        tokenizer=tokenizer,
    )
    click.echo(f"{content.place} -> {target}")
    if (frame := content.contract.images.frame) is not None:
        click.echo(
            f"Note: this policy sees frames ({frame}). The toolkit makes them; the original's code makes the "
            "like only where its evaluation is called with center_crop."
        )


@command.command("verify")
@click.argument("first")
@click.argument("second")
@click.option("--device", default="cpu", show_default=True, help="Where the policies run: cpu, cuda, cuda:1.")
@click.option("--dtype", type=_DTYPES, default="float32", show_default=True, help="Number type in memory.")
@click.option(
    "--observations", type=click.IntRange(min=1), default=4, show_default=True, help="How many are looked at."
)
@click.option("--base", metavar="SOURCE", help="What an adapter among them is put on.")
@click.option(
    "--tokenizer", metavar="SOURCE", help="Folder or hub id, for a run among them that brings none."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def _verify(
    *,
    first: str,
    second: str,
    device: str,
    dtype: str,
    observations: int,
    base: str | None,
    tokenizer: str | None,
    as_json: bool,
) -> int:
    """Say whether FIRST and SECOND act alike: tensors, inputs, logits, actions; exit code 1 if not."""
    from dataclasses import asdict

    from openvla_toolkit.checkpoints.verify import verify as compare

    findings = compare(
        first,
        second,
        device=device,
        dtype=dtype,  # type: ignore[arg-type]
        count=observations,
        base=base,
        tokenizer=tokenizer,
    )
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            click.echo(f"{'ok' if finding.same else 'DIFFERS':8} {finding.what:{width}}  {finding.text}")
    return 0 if all(finding.same for finding in findings) else 1
