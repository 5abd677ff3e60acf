"""The verbs of features and similarity: `embed`, `neighbors`, `search`, `attack`, `experiment`, `convert`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from imagescape.cli.options import Device, Json, Overwrite, Scape, Seed, print_result
from imagescape.errors import InputError

FeaturesName = Annotated[
    str | None, typer.Option("--features", help="Name of the features. [default: the last that were made]")
]
Engine = Annotated[
    str, typer.Option("--engine", help="exact, lance, binary, or a FAISS factory string such as IVF256,Flat or HNSW32.")
]
MetricOption = Annotated[
    str | None,
    typer.Option(
        "--metric",
        help="cosine, euclidean, inner_product, manhattan, jensen_shannon or hamming. "
        "[default: cosine; hamming for hashes]",
    ),
]
SearchWidth = Annotated[
    int | None, typer.Option("--search-width", min=1, help="How much an approximate engine looks through (nprobe).")
]
Center = Annotated[bool, typer.Option("--center", help="Measure from the mean of the collection's vectors.")]
Where = Annotated[str | None, typer.Option("--where", help="Only images that meet this: \"label = 'cat'\".")]


def embed(
    scape: Scape,
    encoder: Annotated[
        str,
        typer.Option(
            "--encoder",
            help="A model of the collection; efficientnet_lite0; hf:NAME, timm:NAME, torch:FILE, simclr:FOLDER; the "
            "folder of a saved model; or a hash such as phash64.",
        ),
    ] = "efficientnet_lite0",
    name: Annotated[str | None, typer.Option("--name", "-n", help="Of the column. [default: the encoder's]")] = None,
    dtype: Annotated[str, typer.Option("--dtype", help="Of the column: float16 or float32.")] = "float16",
    device: Device = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write an encoder's features of every image as a column; again, for the images added since.

    Stopped or killed, the same command goes on where it was.

    Example: `imagescape embed photos.scape --encoder efficientnet_lite0`
    """
    from imagescape.collection.store import Collection
    from imagescape.pipeline.embedding import embed as embed_images

    done = embed_images(
        Collection.open(scape), encoder, name, dtype=dtype, overwrite=overwrite, device=device or "auto"
    )
    print_result(asdict(done), as_json, str(done))


def neighbors(
    scape: Scape,
    features: FeaturesName = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours an image.")] = 15,
    engine: Engine = "exact",
    metric: MetricOption = None,
    search_width: SearchWidth = None,
    center: Center = False,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Write the nearest neighbours of every image as columns.

    Example: `imagescape neighbors photos.scape --features efficientnet_lite0 -k 15`
    """
    from imagescape.collection.store import Collection
    from imagescape.pipeline.similarity import as_metric
    from imagescape.pipeline.similarity import neighbors as find_neighbors

    name, rows, found = find_neighbors(
        Collection.open(scape),
        features,
        k=k,
        engine=engine,
        metric=as_metric(metric),
        search_width=search_width,
        center=center,
        overwrite=overwrite,
        device=device or "auto",
    )
    print(f"neighbors_{name}: the {found} nearest of each of {rows} images")


def search(
    scape: Scape,
    query: Annotated[
        str,
        typer.Argument(metavar="QUERY", help="An image file, a folder of them, or an image_id.", show_default=False),
    ],
    features: FeaturesName = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Images a query.")] = 10,
    where: Where = None,
    engine: Engine = "exact",
    metric: MetricOption = None,
    search_width: SearchWidth = None,
    center: Center = False,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with the pictures, too.")] = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Find the images that are most like one, or like each of a folder.

    Example: `imagescape search photos.scape cat.jpg -k 10 --html cats.html`
    """
    from imagescape.collection.store import Collection
    from imagescape.pipeline.similarity import Searcher, as_metric, search_queries

    searcher = Searcher(
        Collection.open(scape),
        features,
        engine=engine,
        metric=as_metric(metric),
        search_width=search_width,
        center=center,
        device=device or "auto",
    )
    answers = search_queries(searcher, query, k, where=where)
    for file, reason in answers.bad.items():
        print(f"imagescape: {file} is left out: {reason}", file=sys.stderr)
    if k > len(searcher):
        print(f"imagescape: {len(searcher)} images have features, fewer than the {k} asked for", file=sys.stderr)
    if html is not None:
        from imagescape.show.searches import write_search_page

        write_search_page(searcher, answers, html)
    lists = {name: [asdict(hit) for hit in hits] for name, hits in answers.hits.items()}
    lines = []
    for name, hits in answers.hits.items():
        lines += [f"{name}:"] * answers.is_folder
        lines += [f"{hit.distance:.4f}\t{hit.image_id}\t{hit.uri}" for hit in hits]
    print_result(lists if answers.is_folder else lists[query], as_json, "\n".join(lines))


def attack(
    scape: Scape,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="Q.scape", help="Where the altered copies go.")],
    kinds: Annotated[
        str | None, typer.Option("--kinds", help="Attacks or families, with commas between. [default: all]")
    ] = None,
    where: Where = None,
    folder: Annotated[Path | None, typer.Option("--folder", help="Write them as PNG files there, too.")] = None,
    seed: Seed = None,
    as_json: Json = False,
) -> None:
    """Make altered copies of the images, as queries that know their original.

    Example: `imagescape attack photos.scape -o queries.scape --kinds jpeg,crop --seed 0`
    """
    from imagescape.collection.store import Collection
    from imagescape.pipeline.attacking import attack as attack_images

    chosen = None if kinds is None else [kind for kind in kinds.split(",") if kind.strip()]
    summary = attack_images(Collection.open(scape), output, chosen, seed=seed or 0, where=where, folder=folder)
    print_result(asdict(summary), as_json, str(summary))


def experiment(
    scape: Annotated[
        Path | None, typer.Argument(metavar="NAME.scape", help="The originals.", show_default=False)
    ] = None,
    queries: Annotated[
        Path | None, typer.Argument(metavar="Q.scape", help="Altered copies, of `attack`.", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="DIR", help="Where the results go.")] = None,
    features: Annotated[
        str | None, typer.Option("--features", help="Names of features, with commas between. [default: all]")
    ] = None,
    engines: Annotated[
        str, typer.Option("--engines", help="As --engine of `search`, with semicolons between.")
    ] = "exact",
    metrics: Annotated[str | None, typer.Option("--metrics", help="As --metric, with commas between.")] = None,
    ks: Annotated[str, typer.Option("--ks", help="Results a query, with commas between.")] = "10",
    search_widths: Annotated[
        str | None, typer.Option("--search-widths", help="nprobe or efSearch, with commas between.")
    ] = None,
    distractors: Annotated[
        list[Path] | None, typer.Option("--distractors", metavar="D.scape", help="Images to search among, too.")
    ] = None,
    held_out: Annotated[
        float, typer.Option("--held-out", help="Fraction of the originals left out, whose copies match nothing.")
    ] = 0.2,
    center: Annotated[
        bool, typer.Option("--center", help="All features of networks measured from their mean, too.")
    ] = False,
    combined: Annotated[bool, typer.Option("--combined/--no-combined", help="All features together, too.")] = True,
    replot: Annotated[
        Path | None, typer.Option("--replot", metavar="DIR", help="Only draw the plots of earlier results again.")
    ] = None,
    seed: Seed = None,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Measure how well and how fast altered copies find their originals: results.json, plots, and a page.

    Example: `imagescape experiment photos.scape queries.scape --features efficientnet_lite0,dhash64 -o results`
    """
    from imagescape.collection.store import Collection
    from imagescape.pipeline.experiments import experiment as run_experiment
    from imagescape.pipeline.similarity import as_metric
    from imagescape.show.searches import plot_experiment, write_experiment

    if replot is not None:
        for path in plot_experiment(replot):
            print(path)
        return
    if scape is None or queries is None or output is None:
        raise InputError("an experiment needs NAME.scape, Q.scape and --output DIR; or --replot DIR alone")
    originals, altered = Collection.open(scape), Collection.open(queries)
    measured = run_experiment(
        originals,
        altered,
        features=_listed(features),
        engines=[engine.strip() for engine in engines.split(";")],
        metrics=None if metrics is None else [metric for name in _listed(metrics) or () if (metric := as_metric(name))],
        ks=_numbers(ks, "--ks"),
        search_widths=None if search_widths is None else _numbers(search_widths, "--search-widths"),
        distractors=[Collection.open(path) for path in distractors or ()],
        held_out=held_out,
        center=center,
        combined=combined,
        seed=seed or 0,
        device=device or "auto",
    )
    written = write_experiment(originals, altered, measured, output)
    if as_json:
        print((output / "results.json").read_text(encoding="utf-8"))
        return
    print(measured.outcome.experiment)
    for path in written:
        print(path)


def convert(
    source: Annotated[
        Path | None, typer.Argument(metavar="CHECKPOINT", help="A SimCLR checkpoint of TensorFlow.", show_default=False)
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Folder for the model.")] = None,
    download: Annotated[
        str | None, typer.Option("--download", metavar="MODEL", help="Fetch a published one: r50_2x_sk1.")
    ] = None,
    category: Annotated[
        str, typer.Option("--category", help="pretrained, finetuned_100pct, …, supervised; v1: pretrain, finetune_….")
    ] = "pretrained",
    ema: Annotated[
        bool | None, typer.Option("--ema/--no-ema", help="The averaged weights. [default: where there are any]")
    ] = None,
) -> None:
    """Make a model of a SimCLR checkpoint in TensorFlow's format; TensorFlow is not needed.

    Example: `imagescape convert --download r50_2x_sk1 -o models/simclr` and then
    `imagescape embed photos.scape --encoder simclr:models/simclr`
    """
    from imagescape.features.simclr_checkpoints import convert as convert_checkpoint
    from imagescape.features.simclr_downloads import download as fetch_checkpoint

    if (source is None) == (download is None):
        raise InputError("convert needs a CHECKPOINT, or --download MODEL, and not both")
    found = source if download is None else fetch_checkpoint(download, category)
    assert found is not None
    target = output or Path(download or found.absolute().parent.name)
    encoder = convert_checkpoint(found, target, ema=ema)
    print(f"{target}: {encoder.architecture.backbone}, {encoder.out_features} features; --encoder simclr:{target}")


def _listed(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str, option: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} takes whole numbers with commas between, got '{text}'") from error
    if min(numbers) < 1:
        raise InputError(f"{option} must be 1 or more, got {min(numbers)}")
    return numbers
