"""`python -m supply_chain`: advisories of the pinned packages, and the bill of materials of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from supply_chain import sbom as bills
from supply_chain.audit import AuditError
from supply_chain.audit import audit as look_up

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)


@app.command()
def audit(
    advisories: Annotated[
        Path | None, typer.Option(help="Copy of OSV's advisories: all.zip, or a directory of JSON files.")
    ] = None,
    constraints: Annotated[Path, typer.Option(help="File of pinned packages.")] = bills.CONSTRAINTS,
) -> None:
    """List advisories of the pinned packages: exit code 1 if there are any, 2 if none could be looked up."""
    try:
        found, n_packages = look_up(constraints, advisories)
    except AuditError as error:
        typer.echo(f"audit: {error}", err=True)
        raise typer.Exit(2) from None
    for finding in found:
        typer.echo(str(finding))
    typer.echo(f"{n_packages} pinned packages, {len(found)} advisories")
    raise typer.Exit(1 if found else 0)


@app.command()
def sbom(
    image: Annotated[str, typer.Argument(help="cpu or gpu.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
    packages: Annotated[Path | None, typer.Option(help="Directory of its installed Python packages.")] = None,
    root: Annotated[Path | None, typer.Option(help="File system of the built image, in place of it.")] = None,
) -> None:
    """Write the bill of materials of an image, compared with the schema of CycloneDX."""
    try:
        bill = bills.make_bill(image, packages, root)
        bills.check(bill)
    except bills.BillError as error:
        typer.echo(f"sbom: {error}", err=True)
        raise typer.Exit(1) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(bill, encoding="utf-8")
    typer.echo(f"{out}: {bills.summary(bill)}")


if __name__ == "__main__":
    app()
