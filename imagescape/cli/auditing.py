"""The verb that says what is wrong: `audit`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from imagescape.cli.looking import names_of
from imagescape.cli.options import Device, Json, Scape, Seed, print_result
from imagescape.errors import InputError


def audit(
    scape: Scape,
    features: Annotated[
        str | None, typer.Option("--features", help="Of a network; whose neighbours count. [default: the last]")
    ] = None,
    similarity: Annotated[
        float | None,
        typer.Option("--similarity", min=0, max=1, help="Least cosine of near-duplicates. [default: .9]"),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option("--bits", min=0, max=32, help="Of 64 of a perceptual hash, that may differ. [default: 4]"),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option("--by", help="Near-duplicates by 'hash' or 'features' alone. [default: both]"),
    ] = None,
    keep: Annotated[
        str, typer.Option("--keep", help="Which of a group of duplicates stays: largest, oldest, first or center.")
    ] = "largest",
    reference: Annotated[
        list[str] | None,
        typer.Option("--reference", metavar="DIR", help="Images below it stay before others; the first DIR the most."),
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="Column of train, test, …, for leaks. [default: split]")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", help="Column of classes. [default: label_name or label]")
    ] = None,
    clusters: Annotated[str | None, typer.Option("--clusters", help="A clustering to hold images against.")] = None,
    map_name: Annotated[
        str | None, typer.Option("--map", help="A map whose neighbours are compared. [default: the last]")
    ] = None,
    neighbors: Annotated[int, typer.Option("--neighbors", min=1, help="Of each image, that are asked.")] = 15,
    oddity: Annotated[
        float, typer.Option("--oddity", min=0, help="Deviations from the usual that make an image an outlier.")
    ] = 2.5,
    doubt: Annotated[
        float, typer.Option("--doubt", min=0.01, max=1, help="Confidence from which a label is doubted.")
    ] = 0.7,
    thresholds: Annotated[
        str | None, typer.Option("--thresholds", help="Of quality: dark=.3,blurry=.35,blocky=0 (0 looks for none).")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Also a page to look at: FILE.html.")] = None,
    finds: Annotated[int, typer.Option("--finds", min=1, help="Of each kind on the page.")] = 40,
    seed: Seed = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Look for duplicates, leaks, bad images, oddities and doubtful labels. Nothing is changed, moved or deleted.

    What is found goes into columns of the table; `imagescape export` makes lists of it. Of a collection
    that grew, only what is new is looked at, against everything.

    Example: `imagescape audit photos.scape -o audit.html`

    Example: `imagescape audit photos.scape --split split --keep oldest --reference originals/ --json`
    """
    options = locals()
    from imagescape.collection.store import Collection
    from imagescape.pipeline.audit_results import as_dict, check_columns, write_columns
    from imagescape.pipeline.auditing import AuditSettings
    from imagescape.pipeline.auditing import audit as audit_collection

    if output is not None:
        from imagescape.report.markup import check_page_path

        if output.suffix.lower() not in (".html", ".htm"):
            raise InputError(f"a page is FILE.html, got '{output}'")
        check_page_path(output)
    collection = Collection.open(scape)
    check_columns(collection)
    found = audit_collection(collection, AuditSettings(**_settings(options)))
    columns = write_columns(collection, found)
    result, text = as_dict(found) | {"columns": columns}, str(found)
    if output is not None:
        from imagescape.show.audit_report import write_audit_page

        page = write_audit_page(collection, found, output, finds=finds)
        result["page"], text = str(page), f"{text}\n\n{page}"
    print_result(result, as_json, text)


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    from imagescape.pipeline.auditing import BITS, SIMILARITY, as_thresholds

    by, bits, similarity = options["by"], options["bits"], options["similarity"]
    if by not in (None, "hash", "features"):
        raise InputError(f"--by takes hash or features, got '{by}'")
    if (by == "hash" and similarity is not None) or (by == "features" and bits is not None):
        raise InputError(f"--by {by} takes no {'--similarity' if by == 'hash' else '--bits'}")
    return {
        "features": options["features"],
        "bits": None if by == "features" else BITS if bits is None else bits,
        "similarity": None if by == "hash" else SIMILARITY if similarity is None else similarity,
        "keep": options["keep"],
        "reference": tuple(str(Path(one).absolute()) for one in options["reference"] or ()),
        **{name: options[name] for name in ("split", "label", "clusters", "map_name", "neighbors", "oddity", "doubt")},
        "thresholds": as_thresholds(_numbers(options["thresholds"])),
        "seed": options["seed"] or 0,
        "device": options["device"] or "auto",
    }


def _numbers(given: str | None) -> dict[str, float]:
    """`dark=.3,blurry=.35` as numbers by name."""
    numbers = {}
    for one in names_of(given):
        name, _, value = one.partition("=")
        try:
            numbers[name.strip()] = float(value)
        except ValueError as error:
            raise InputError(f"--thresholds takes ISSUE=NUMBER with commas between, got '{one}'") from error
    return numbers
