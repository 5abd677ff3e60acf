"""The verbs of the table itself: `ingest`, `info`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from imagescape.cli.options import (
    Embed,
    Glob,
    Json,
    Layout,
    LayoutOption,
    MaxPixels,
    Salvage,
    Scape,
    ingest_options,
    print_result,
)
from imagescape.errors import InputError


def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE…",
            help="Folders, lists, CSV, Parquet, IDX, CIFAR, STL-10, MedMNIST, .npy; or a data set's name.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="NAME.scape", help="The collection.")],
    embed: Embed = False,
    salvage_truncated: Salvage = False,
    max_pixels: MaxPixels = None,
    glob: Glob = None,
    layout: LayoutOption = Layout.auto,
    as_json: Json = False,
) -> None:
    """Read images into a collection, or add what is new to one.

    Example: `imagescape ingest photos/ more.csv -o photos.scape`
    """

    from imagescape.collection.ingest import ingest as ingest_sources

    summary = ingest_sources(sources, output, **ingest_options(embed, salvage_truncated, max_pixels, glob, layout))
    if summary.flagged == summary.rows:
        raise InputError(f"none of the {summary.rows} images can be read; see: imagescape info {output} --flagged")
    print_result(asdict(summary), as_json, str(summary))


def info(
    scape: Scape,
    flagged: Annotated[
        bool, typer.Option("--flagged", help="List the images that could not be used, and why.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what is in a collection.

    Example: `imagescape info photos.scape --flagged`
    """
    from imagescape.collection.results import describe_features, map_names
    from imagescape.collection.store import Collection

    collection = Collection.open(scape)
    summary = collection.summary() | {"maps": map_names(collection), "features": describe_features(collection)}
    if flagged:
        summary["flagged_rows"] = collection.flagged_rows()
    lines = [f"{summary['rows']} images, {summary['ok']} usable, {summary['flagged']} flagged"]
    lines += [f"  {status}: {count}" for status, count in summary["by_status"].items()]
    lines += ["columns: " + ", ".join(column["name"] for column in summary["columns"])]
    lines += ["maps: " + (", ".join(summary["maps"]) or "none yet")]
    made = [f"{one['name']} ({one['dimensions']}, by {one['encoder'] or '?'})" for one in summary["features"]]
    lines += ["features: " + (", ".join(made) or "none yet")]
    lines += [f"{row['status']}\t{row['uri']!r}\t{row['reason']}" for row in summary.get("flagged_rows", ())]
    print_result(summary, as_json, "\n".join(lines))


def export(
    scape: Scape,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.npy", help="Where the values of the features go."),
    ] = None,
    features: Annotated[
        str | None, typer.Option("--features", help="Name of the features. [default: the last that were made]")
    ] = None,
    keep_list: Annotated[
        Path | None,
        typer.Option("--keep-list", metavar="FILE", help="Images to keep by the last audit: .csv, .json or .txt."),
    ] = None,
    remove_list: Annotated[
        Path | None, typer.Option("--remove-list", metavar="FILE", help="The others, and why: .csv, .json or .txt.")
    ] = None,
    without: Annotated[
        str | None,
        typer.Option("--without", help="Issues whose images are not kept either: blurry,outlier,label_doubt,leak."),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="A new folder for copies of the images to keep; needs --apply."),
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply/--dry-run", help="Copy, and do not only say what would be copied.")
    ] = False,
    link: Annotated[bool, typer.Option("--link", help="Hard links instead of copies, where that is possible.")] = False,
    static: Annotated[
        Path | None,
        typer.Option("--static", metavar="DIR", help="The explorer's page and its data, for any server of files."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write features as `.npy`, with their images in `.csv` beside it; which images to keep; or a page to look at them.

    The images of the collection stay where they are, unchanged, whatever is exported. The page of --static is that of
    `imagescape explore`, to read only, with the thumbnails and without the images themselves.

    Example: `imagescape export photos.scape --features efficientnet_lite0 -o features.npy`

    Example: `imagescape export photos.scape --keep-list keep.txt --remove-list remove.csv --without blurry`

    Example: `imagescape export photos.scape --to clean/ --apply`

    Example: `imagescape export photos.scape --static site/`
    """
    from imagescape.collection.store import Collection
    from imagescape.pipeline.exporting import export_features

    collection, lists = Collection.open(scape), (keep_list, remove_list)
    if output is None and to is None and static is None and not any(lists):
        raise InputError(
            "nothing to export: say -o FILE.npy, --keep-list FILE, --remove-list FILE, --to DIR or --static DIR"
        )
    if output is None and features is not None:
        raise InputError("--features are exported to -o FILE.npy")
    if to is None and (apply or link):
        raise InputError("--apply and --link are of copies: say --to DIR")
    if without is not None and to is None and not any(lists):
        raise InputError("--without is for --keep-list, --remove-list and --to")
    written = [] if output is None else list(export_features(collection, features, output))
    result: dict[str, Any] = {}
    if to is not None or any(lists):
        result = _export_choice(collection, lists, without, to, apply=apply, link=link)
        written += result.pop("written")
    if static is not None:
        from imagescape.explore.explorer import Explorer
        from imagescape.explore.site import write_site

        result["site"] = {"folder": str(static), "files": write_site(Explorer(collection, read_only=True), static)}
        result.setdefault("said", []).append(f"{static}: to look, python -m http.server --directory {static}")
    said = [*map(str, written), *result.pop("said", ())]
    print_result({"files": [str(path) for path in written], **result}, as_json, "\n".join(said))


def _export_choice(
    collection: Any,
    lists: tuple[Path | None, Path | None],
    without: str | None,
    to: Path | None,
    *,
    apply: bool,
    link: bool,
) -> dict[str, Any]:
    from imagescape.cli.looking import names_of
    from imagescape.pipeline.lists import check_list_path, choose, copy_images, write_list

    for path in filter(None, lists):
        check_list_path(path)
    choice = choose(collection, names_of(without))
    sides = zip(lists, (choice.kept, choice.removed), strict=True)
    result: dict[str, Any] = {"kept": len(choice.kept), "removed": len(choice.removed)}
    result["written"] = [write_list(rows, path) for path, rows in sides if path is not None]
    result["said"] = [f"{len(choice.kept):,} images to keep, {len(choice.removed):,} not"]
    if to is not None:
        copied = copy_images(collection, choice.kept, to, apply=apply, link=link)
        result["copied"] = {
            "folder": str(copied.folder),
            "images": copied.images,
            "bytes": copied.size_bytes,
            "failed": copied.failed,
            "is_done": copied.is_done,
        }
        result["said"].append(str(copied))
    return result
