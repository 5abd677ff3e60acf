"""Fine-tuning EfficientNet-Lite0 to find altered copies, on a processor: before, whitened alone, and after.

    python benchmarks/finetuning.py ../shared/data --minutes 30

Trains on photographs that nobody labelled (three quarters of BSDS500's training photographs and some of Tiny ImageNet's
validation images) and tests on the other photographs, altered in 90 ways, among images that were not trained on.
Rotation and perspective are shown to nobody, neither in training nor to the guard that chooses what is kept.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from measure import hardware
from pyarrow import parquet

from imagescape.collection.ingest import ingest
from imagescape.collection.store import Collection
from imagescape.evaluate.looks import Look, table, worst_family
from imagescape.features.encoders import open_encoder
from imagescape.learn.descriptor import Described, begin
from imagescape.learn.edits import EDITS
from imagescape.learn.encoder import Encoder
from imagescape.learn.finetuning import features_of_some
from imagescape.learn.guard import Guard
from imagescape.learn.heads import Network
from imagescape.learn.watch import alike
from imagescape.pipeline.finetuning import finetune
from imagescape.pipeline.guarding import make_guard

HIDDEN = ("rotate", "perspective")
GUARDED = ("shear", "screenshot", "motion_blur")  # unseen kinds for the guard; not those of the test
ENCODER = "efficientnet_lite0"


def collections(
    data: Path, work: Path, fold: int, tested: int, training: int, others: int
) -> tuple[Collection, Collection, Collection]:
    """What is trained on, the photographs of the test, and what those are searched among besides."""
    photographs, small = (_pictures(data / f"{name}.parquet") for name in ("bsds500-train", "tiny-imagenet-val"))
    parts = {
        "train": [one for row, one in enumerate(photographs) if row % 4 != fold] + small[:training],
        "test": photographs[fold::4][:tested],
        "others": small[-others:],
    }
    found = []
    for name, pictures in parts.items():
        folder = work / name
        folder.mkdir(parents=True, exist_ok=True)
        for row, picture in enumerate(pictures):
            (folder / f"{row:05}.jpg").write_bytes(picture)
        ingest([folder], work / f"{name}.scape", layout="flat")
        found.append(Collection.open(work / f"{name}.scape"))
    return found[0], found[1], found[2]


def _pictures(path: Path) -> list[bytes]:
    return [one["bytes"] for one in parquet.read_table(path, columns=["image"])["image"].to_pylist()]


def whitened(encoder: Encoder, train: Collection, dimensions: int) -> Encoder:
    """The encoder with its features whitened, and nothing learned."""
    way = encoder.preprocessing
    described = Described(encoder.network.backbone, dimensions)
    begin(described, features_of_some(encoder, train.pixels(way.cache_px, way.fit)))
    return alike(encoder, Network(described, None))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with bsds500-train.parquet and tiny-imagenet-val.parquet")
    parser.add_argument("--minutes", type=float, default=30, help="for everything, the tests included")
    parser.add_argument("--training", type=int, default=1500, help="images of Tiny ImageNet that are trained on")
    parser.add_argument("--test", type=int, default=50, help="photographs of the test, 50 at most")
    parser.add_argument("--fold", type=int, default=0, help="which quarter of the photographs is the test, 0 to 3")
    parser.add_argument("--guarded", type=int, default=50, help="images that stand guard")
    parser.add_argument("--distractors", type=int, default=600)
    parser.add_argument("--recipes", default="copies,simclr")
    parser.add_argument("--settings", type=json.loads, default={}, help="more settings of the recipe copies, as JSON")
    parser.add_argument("--work", type=Path, help="folder to keep collections and runs in")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    began = time.monotonic()
    print(hardware())
    work = options.work or Path(tempfile.mkdtemp(prefix="finetuning-"))
    train, test, others = collections(
        options.data, work, options.fold, options.test, options.training, options.distractors
    )
    old = open_encoder(ENCODER)
    among = (others, others.ok_ids())
    guard = make_guard(
        test, test.ok_ids(), old.preprocessing, unseen=HIDDEN, each=None, others=among, seed=options.seed
    )
    print(
        f"{len(train)} images to train on; test: {len(guard.queries):,} altered copies of {len(test)} photographs "
        f"among {len(guard.database)} images; {_minutes(began)} min",
        flush=True,
    )
    looked = time.monotonic()
    looks = [guard.look(old, name="before")]
    a_look = (time.monotonic() - looked) / 60
    looks.append(guard.look(whitened(old, train, 512), name="whitened alone"))
    print(f"{table(looks)}\n{_minutes(began)} min, a look takes {a_look:.1f}", flush=True)
    recipes = options.recipes.split(",")
    left = options.minutes - (time.monotonic() - began) / 60 - len(recipes) * (a_look + 0.5)
    shares = {"copies": 0.7, "simclr": 0.3, "neighbors": 0.3}
    whole = sum(shares[one] for one in recipes)
    for recipe in recipes:
        looks.append(run(recipe, train, guard, left * shares[recipe] / whole, options))
        print(f"{table(looks)}\n{_minutes(began)} min", flush=True)
    print(families(looks))
    for look in looks[1:]:
        family, change = worst_family(looks[0], look)
        print(f"{look.name}: the worst change of a family is {100 * change:+.1f} points, of {family}")
    (work / "results.json").write_text(json.dumps([look.as_dict() for look in looks], indent=1))


def run(recipe: str, train: Collection, guard: Guard, minutes: float, options: argparse.Namespace) -> Look:
    settings = {"edits": tuple(one for one in EDITS if one != "rotate")} if recipe == "copies" else {}
    settings |= options.settings if recipe == "copies" else {}
    done = finetune(
        train,
        recipe,
        encoder=ENCODER,
        recipe=recipe,
        unseen=GUARDED,
        held_out=min(0.2, options.guarded / len(train)),
        minutes=minutes,
        seed=options.seed,
        overwrite=True,
        features=False,
        **settings,
    )
    print(done, flush=True)
    if done.warning:
        print(done.warning)
    return guard.look(Encoder.load(train.path / "models" / recipe), name=f"{recipe} ({done.kept.name})")


def families(looks: list[Look]) -> str:
    """Recall@1 of every family by every network, for those that are not at 1 everywhere."""
    width = max(len(one) for one in looks[0].by_family)
    lines = [f"{'recall@1 by family':<{width}}  " + "  ".join(f"{look.name[:20]:>20}" for look in looks)]
    for family in looks[0].by_family:
        values = [look.by_family[family] for look in looks]
        if min(values) < 1:
            lines.append(f"{family:<{width}}  " + "  ".join(f"{value:>20.3f}" for value in values))
    return "\n".join(lines)


def _minutes(began: float) -> str:
    return f"{(time.monotonic() - began) / 60:.1f}"


if __name__ == "__main__":
    main()
