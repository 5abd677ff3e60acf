"""SCAN of whole images: the network that made the features learns the clusters with its heads.

Van Gansbeke et al. 2020, arXiv:2005.12320. It begins with a network that has learned features, from the neighbours in
them; images and their neighbours are seen strongly augmented. Then the kept head and the network learn from what their
running mean is sure of when it sees an image as it is.
"""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors
from torch import Generator, Tensor, nn

from imagescape.errors import NotFitted
from imagescape.images.pixels import as_pixels
from imagescape.learn.cluster_estimator import ClusterRecipe, LearnedClusters, Stages
from imagescape.learn.cluster_heads import Judge, LinearHeads, Watched, readout
from imagescape.learn.cluster_losses import scan_loss
from imagescape.learn.cluster_rows import UnitRows, graph_of, in_use, set_aside, start_from_kmeans
from imagescape.learn.encoder import Architecture, Encoder, Preprocessing
from imagescape.learn.optim import Schedule, epochs_for
from imagescape.learn.pairs import NeighborImages, WeakStrong
from imagescape.learn.scan import AnyScanRecipe, learn_scan
from imagescape.learn.strong_augment import Strong
from imagescape.learn.train import fabric_of_one
from imagescape.model_folder import read_config, read_recipe, reading_weights, write_model
from imagescape.runtime import Precision, autocast_dtype, seed_for, track


@dataclass(frozen=True, kw_only=True)
class ImageScanRecipe(AnyScanRecipe):
    """Settings of SCAN of whole images, beside those of every `AnyScanRecipe`; here it self-labels by default.

    Attributes:
        epochs: Passes over the images with all heads; `steps`, where given, take their place.
        selflabel_epochs: Passes over the images in self-labelling.
        selflabel_batch_size: Images a step in self-labelling, as many as there are at most.
    """

    selflabel: bool = True
    epochs: int = 50
    selflabel_epochs: int = 200
    selflabel_batch_size: int = 1000

    least: ClassVar[dict[str, int]] = {
        **ClusterRecipe.least,
        "epochs": 1,
        "selflabel_epochs": 1,
        "selflabel_batch_size": 1,
    }
    method: ClassVar[str] = "SCAN of images"

    @property
    def from_kmeans(self) -> int:
        """Heads that start from k-means: half of them, where nothing is said."""
        return self.heads // 2 if self.kmeans_heads is None else min(self.kmeans_heads, self.heads)

    def schedule(self, images: int) -> Schedule:
        batch = min(images, self.batch_size or 128)
        epochs = self.epochs if self.steps is None else epochs_for(self.steps, images, batch)
        return self._adam(epochs, batch)

    def selflabel_schedule(self, images: int) -> Schedule:
        return self._adam(self.selflabel_epochs, min(images, self.selflabel_batch_size))

    def _adam(self, epochs: int, batch: int) -> Schedule:
        return Schedule(
            epochs=epochs,
            batch_size=batch,
            learning_rate=self.learning_rate or 1e-4,
            decay="constant",
            optimizer="adam",
            weight_decay=1e-4,
        )


class ImageHeads(nn.Module):
    """A backbone and cluster heads on its features, made unit rows: views (n, 3, t, t) -> logits (n, heads, k).

    Args:
        backbone: Views -> features (n, d).
        mean, axes: Of the principal components of the features that it begins with, (d,) and (d, c).
        heads: On unit rows of width c.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, backbone: nn.Module, mean: Tensor, axes: Tensor, heads: LinearHeads) -> None:
        super().__init__()
        self.backbone, self.heads = backbone, heads
        self.register_buffer("mean", mean)
        self.register_buffer("axes", axes)

    def forward(self, views: Float[Tensor, "n 3 t t"]) -> Float[Tensor, "n heads k"]:
        features: Tensor = self.backbone(views)
        with torch.autocast(views.device.type, enabled=False):
            logits: Tensor = self.heads(F.normalize((features.float() - self.mean) @ self.axes, dim=1))
        return logits

    def only(self, head: int) -> "ImageHeads":
        """The network with one of its heads, as a copy."""
        return ImageHeads(copy.deepcopy(self.backbone), self.mean.clone(), self.axes.clone(), self.heads.only(head))

    def arrange(self, order: Int[Tensor, " k"]) -> None:
        """As `Heads.arrange`."""
        self.heads.arrange(order)


@dataclass(frozen=True)
class Looking:
    """How a network sees plain images, a batch at a time.

    Attributes:
        preprocessing: From cached squares to its input.
        device, precision: Where and how it runs.
        batch_size: Images at a time.
    """

    preprocessing: Preprocessing
    device: torch.device
    precision: Precision
    batch_size: int

    @torch.no_grad()
    def logits(
        self, network: nn.Module, pixels: np.ndarray, advance: Callable[[int], object] = lambda images: None
    ) -> Float[Tensor, "n heads k"]:
        """Of uint8 squares (n, s, s, 3) of the cache's size; `advance` is told how many more are done."""
        dtype = autocast_dtype(self.device, self.precision)
        parts = []
        with torch.autocast(self.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            for start in range(0, len(pixels), self.batch_size):
                batch = torch.from_numpy(np.array(pixels[start : start + self.batch_size])).to(self.device)
                parts.append(network(self.preprocessing.view(batch)))
                advance(len(batch))
        return torch.cat(parts)


class ScanImages(LearnedClusters):
    """Clusters of images by SCAN of the whole network: `fit`, then `labels_`; `predict` says of new images.

    Args:
        k: Clusters.
        encoder: With learned features, such as `SimCLR().fit(images).encoder_`, or the folder of a saved one. It is
            copied.
        random_state: The seed.
        settings: Any other field of `ImageScanRecipe`.

    Attributes after `fit`: see `LearnedClusters`, and with self-labelling
        rolled_back_: Whether self-labelling did not better the clusters, so that those before it were kept.
    """

    recipe: ImageScanRecipe
    _recipe_type = ImageScanRecipe

    def __init__(
        self, k: int, encoder: Encoder | str | Path, *, random_state: int | None = None, **settings: Any
    ) -> None:
        super().__init__(k, random_state=random_state, **settings)
        self.encoder = encoder
        self._arguments["encoder"] = encoder
        self._architecture: Architecture | None = None
        self._looking: Looking | None = None

    def fit(
        self,
        images: Any,
        y: object = None,
        *,
        graph: Int[np.ndarray, "n neighbors"] | None = None,
        run_folder: str | Path | None = None,
        checkpoint_minutes: float = 5,
    ) -> Self:
        """Learn the clusters of `images`.

        Args:
            images: A collection, paths, PIL images, a (n, h, w, 3) uint8 array, or a torch Dataset.
            y, graph, run_folder, checkpoint_minutes: As `LearnedClusters.fit`; near is by the encoder's features.

        Raises:
            InputError: fewer images than clusters, features that are all the same, or a graph of other rows.
            Interrupted: Ctrl-C.
        """
        recipe = self.recipe
        fabric = fabric_of_one(recipe.device, recipe.precision, "clusters of images are")
        encoder = self.encoder if isinstance(self.encoder, Encoder) else Encoder.load(self.encoder)
        way = encoder.preprocessing
        self._architecture = encoder.architecture
        self._looking = Looking(way, fabric.device, recipe.precision, encoder.batch_size)
        pixels = as_pixels(images, way.cache_px, fit=way.fit, resample=way.resample)
        features = encoder.encode_pixels(pixels)[0]
        unit = UnitRows.of(features, recipe.k)
        rows = unit.project(features)
        graph = graph_of(rows, graph, recipe.neighbors_for(len(rows)), recipe.device)
        generator = Generator().manual_seed(seed_for(recipe.seed, "heads"))
        heads = LinearHeads(rows.shape[1], recipe.k, recipe.heads, generator)
        start_from_kmeans(heads, rows, recipe.from_kmeans, recipe.seed)
        mean, axes = map(torch.from_numpy, (unit.components.mean, unit.components.axes))
        network = ImageHeads(copy.deepcopy(encoder.network.backbone), mean, axes, heads)
        stages = self._stages(fabric, run_folder, checkpoint_minutes)
        watched = self._learn(stages, network.requires_grad_(True), pixels, graph)
        self._keep(watched, stages)
        self._assign(self._probabilities(pixels))
        return self

    def _probabilities(self, pixels: np.ndarray) -> Float[np.ndarray, "n k"]:
        if not len(pixels):
            return np.empty((0, self.recipe.k), np.float32)
        assert self._looking is not None
        with track("clusters of images", len(pixels)) as progress:
            return self._looking.logits(self._head, pixels, progress.advance).softmax(-1)[:, 0].cpu().numpy()

    def _judge(self, pixels: np.ndarray, graph: np.ndarray, chosen: np.ndarray) -> Judge:
        """The loss of each head on plain images that are set aside and a neighbour of each, and clusters in use."""
        looking = self._looking
        assert looking is not None
        which = np.random.default_rng(seed_for(self.recipe.seed, "validation")).integers(
            graph.shape[1], size=len(chosen)
        )
        sides = [np.array(pixels[rows]) for rows in (chosen, graph[chosen, which])]

        def judge(live: nn.Module) -> tuple[Tensor, Tensor]:
            a, b = (looking.logits(readout(live), side) for side in sides)
            return scan_loss(a, b, entropy_weight=1.0), in_use(a.argmax(-1), a.shape[-1])

        return judge

    def _learn(self, stages: Stages, network: ImageHeads, pixels: np.ndarray, graph: np.ndarray) -> Watched:
        assert self._looking is not None
        recipe, device, way = self.recipe, stages.fabric.device, self._looking.preprocessing
        strong = Strong(size_px=way.size_px, mean=way.mean, std=way.std)
        anchors, held_out = set_aside(len(pixels), recipe.k, recipe.seed)
        watched, rolled_back = learn_scan(
            stages,
            recipe,
            network,
            self._judge(pixels, graph, held_out),
            (NeighborImages(pixels, graph, strong, device, anchors), recipe.schedule(len(anchors))),
            lambda: (WeakStrong(pixels, way.view, strong, device, anchors), recipe.selflabel_schedule(len(anchors))),
        )
        if recipe.selflabel:
            self.rolled_back_ = rolled_back
        return watched

    @property
    def preprocessing(self) -> Preprocessing:
        """How images become the network's input; NotFitted before `fit`."""
        return self._fitted().preprocessing

    def predict_proba(self, images: Any) -> Float[np.ndarray, "m k"]:
        """Probabilities of each cluster for new images, which are as for `fit`."""
        way = self.preprocessing
        return self._probabilities(as_pixels(images, way.cache_px, fit=way.fit, resample=way.resample))

    def save(self, folder: str | Path, **about: Any) -> None:
        looking = self._fitted()
        assert self._architecture is not None
        network = {
            "architecture": {**asdict(self._architecture), "out_features": 0},
            "preprocessing": asdict(looking.preprocessing),
        }
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self._head.state_dict().items()}
        write_model(folder, type(self).__name__, asdict(self.recipe), to_safetensors(tensors), {**network, **about})

    @classmethod
    def load(cls, folder: str | Path, *, backbone: nn.Module | None = None, device: str = "auto") -> Self:
        """Read a saved model, ready to `predict`.

        Args:
            folder: The model's.
            backbone: The module, when the model was built on one of the user's own.
            device: Where it runs.

        Raises:
            CheckpointError: not a model of this method, damaged, or of a newer imagescape.
        """
        folder, config, saved = Path(folder), read_config(folder), read_recipe(folder, cls.__name__)
        with reading_weights(folder) as path:
            architecture = Architecture(**config["architecture"])
            preprocessing = Preprocessing.from_dict(config["preprocessing"])
            network = architecture.build(backbone)
            encoder = Encoder(network, architecture, preprocessing, name=folder.name, device=device)
            model = cls(encoder=encoder, **saved | {"device": device})
            tensors = load_file(path)
            mean, axes = tensors["mean"], tensors["axes"]
            heads = LinearHeads(axes.shape[1], model.recipe.k, 1)
            model._head = ImageHeads(network.backbone, mean, axes, heads)
            model._head.load_state_dict(tensors)
        model._head.requires_grad_(False).eval().to(encoder.device, memory_format=torch.channels_last)
        model._architecture = architecture
        model._looking = Looking(preprocessing, encoder.device, model.recipe.precision, encoder.batch_size)
        return model

    def _fitted(self) -> Looking:
        if self._head is None or self._looking is None:
            raise NotFitted(f"this {type(self).__name__} has learned nothing yet: call fit, or load a saved one")
        return self._looking
