"""The verbs of names: `name`, `export-names`, `import-names`."""

from pathlib import Path
from typing import Annotated

import typer

from imagescape.cli.options import Device, Json, Scape, print_result
from imagescape.errors import InputError

Clusters = Annotated[str, typer.Option("--clusters", help="Which clustering, or cut of one.")]


def name_command(
    scape: Scape,
    clusters: Clusters,
    encoder: Annotated[
        str | None,
        typer.Option(
            "--encoder",
            help="Name by words that fit the pictures, as this CLIP or SigLIP sees them: hf:NAME, hf:FOLDER, or the "
            "name of features that it made.",
        ),
    ] = None,
    words: Annotated[
        Path | None, typer.Option("--words", metavar="FILE", help="Words to choose from, one a line.")
    ] = None,
    wordnet: Annotated[
        Path | None,
        typer.Option("--wordnet", metavar="DIR", help="The nouns of WordNet, of data.noun and index.noun in DIR."),
    ] = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option("--prompt", help="A sentence to put words into, '{}' in their place; several are averaged."),
    ] = None,
    margin: Annotated[
        float | None, typer.Option("--margin", help="Nats by which a word must beat all others. [default: .5]")
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option("--metadata", help="Name by what these columns of text say, with commas between: folder,caption."),
    ] = None,
    names: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="ID=NAME", help="What you call a cluster, or an image by its image_id."),
    ] = None,
    propagate: Annotated[
        bool | None,
        typer.Option(
            "--propagate/--no-propagate",
            help="Give your names also to what lies beside it and has none. [default: as the last time]",
        ),
    ] = None,
    features: Annotated[
        str | None, typer.Option("--features", help="What was clustered. [default: what the clustering says]")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Forget all earlier names, yours too.")] = False,
    device: Device = None,
    as_json: Json = False,
) -> None:
    """Name the clusters: by words that fit the pictures, by what is written about them, or by you.

    What does not fit distinctly is left without a name. Without any of these, it finds the images that show each
    cluster. Your names stay when others are found anew.

    Example: `imagescape name photos.scape --clusters C --encoder hf:clip-vit-base/ --wordnet /usr/share/wordnet`

    Example: `imagescape name photos.scape --clusters C --set 3=lynx --propagate`
    """
    from imagescape.cluster.naming import Demands
    from imagescape.collection.store import Collection
    from imagescape.pipeline.naming import name_clusters
    from imagescape.pipeline.word_naming import PROMPTS, Words

    given = {"--words": words, "--wordnet": wordnet, "--prompt": prompts, "--margin": margin}
    if encoder is None and (said := [option for option, value in given.items() if value is not None]):
        raise InputError(f"{said[0]} needs an --encoder that puts words and pictures into one space")
    asked = None
    if encoder is not None:
        demands = Demands() if margin is None else Demands(margin=margin)
        asked = Words(encoder=encoder, file=words, wordnet=wordnet, prompts=prompts or PROMPTS, demands=demands)
    done = name_clusters(
        Collection.open(scape),
        clusters,
        words=asked,
        metadata=[column.strip() for column in (metadata or "").split(",") if column.strip()],
        names=_said(names or []),
        propagate=propagate,
        features_name=features,
        overwrite=overwrite,
        device=device or "auto",
    )
    print_result(done.as_dict(), as_json, str(done))


def export_names(
    scape: Scape,
    clusters: Clusters,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.csv", help="Where the table goes.")],
) -> None:
    """Write the names of the clusters as a table to correct: id, size, name, score, margin, top words, prototypes.

    Example: `imagescape export-names photos.scape --clusters C -o names.csv`
    """
    from imagescape.collection.store import Collection
    from imagescape.pipeline.names_csv import export_names as write_names

    count = write_names(Collection.open(scape), clusters, output)
    print(f"{output}: {count} clusters; correct the column name, then: imagescape import-names")


def import_names(
    scape: Scape,
    table: Annotated[Path, typer.Argument(metavar="FILE.csv", help="Of export-names, corrected.", show_default=False)],
    clusters: Clusters,
    as_json: Json = False,
) -> None:
    """Take over the names that you changed in a table of `export-names`; an empty one takes the name away.

    Example: `imagescape import-names photos.scape names.csv --clusters C`
    """
    from imagescape.collection.store import Collection
    from imagescape.pipeline.names_csv import import_names as read_names

    done = read_names(Collection.open(scape), clusters, table)
    result = {"changed": list(done.changed), "unchanged": done.unchanged, **done.naming.as_dict()}
    print_result(result, as_json, str(done))


def _said(pairs: list[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for pair in pairs:
        key, sign, name = pair.partition("=")
        if not sign or not key.strip():
            raise InputError(f"--set takes ID=NAME, such as 3=lynx, got '{pair}'")
        if key.strip() in names:
            raise InputError(f"--set names '{key.strip()}' twice")
        names[key.strip()] = name
    return names
