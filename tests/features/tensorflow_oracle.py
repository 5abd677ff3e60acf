"""SimCLR's network in TensorFlow, with random weights: a checkpoint, images, and what the network makes of them.

Run by an interpreter that has TensorFlow and `tf_keras`; it shares no code with imagescape:

    python tests/features/tensorflow_oracle.py network SPEC.json FOLDER
    python tests/features/tensorflow_oracle.py dtypes FOLDER

The names of the variables are TensorFlow's own: layers are made in the order of the original's graph, and
TensorFlow counts them. Written after the description in arXiv:2002.05709, arXiv:2006.10029 and arXiv:1903.06586.

A specification:
    blocks, channels, selective_kernels: the network; channels of the first stage are 64 times the width.
    version: 2 brings the projection head, the moving-average copy and the optimizer's slots; 1 has none of them.
    step: the global step.
    seed, images, height_px, width_px: random weights, and random 8-bit images, which the network gets in [0, 1].
    classes, projection: outputs of the heads.
    gain: of the random kernels. 2 keeps the signal of a shallow network alive. A deep one needs 1: with 2 it grows a
        thousandfold, the softmax of the selective kernels sees logits in the thousands, and rounding alone makes
        TensorFlow in float32 differ from itself in float64 by a thousandth.
"""

import json
import os
import sys
import warnings
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # tf.compat.v1.layers lives in Keras 2
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

v1 = tf.compat.v1


def conv(x, filters, kernel_px, stride=1):
    padding = "SAME"
    if stride > 1:
        before = (kernel_px - 1) // 2
        after = kernel_px - 1 - before
        x = tf.pad(x, [[0, 0], [before, after], [before, after], [0, 0]])
        padding = "VALID"
    return v1.layers.conv2d(x, filters, kernel_px, strides=stride, padding=padding, use_bias=False)


def norm(x, *, relu=True, center=True):
    x = v1.layers.batch_normalization(x, axis=-1, epsilon=1e-5, center=center, training=False, fused=len(x.shape) == 4)
    return tf.nn.relu(x) if relu else x


def selective(x, filters, stride):
    streams = tf.stack(tf.split(norm(conv(x, 2 * filters, 3, stride)), 2, axis=3))
    pooled = tf.reduce_mean(tf.reduce_sum(streams, axis=0), [1, 2], keepdims=True)
    mixing = conv(norm(conv(pooled, max(filters // 16, 32), 1)), 2 * filters, 1)
    mixing = tf.nn.softmax(tf.stack(tf.split(mixing, 2, axis=3)), axis=0)
    return tf.reduce_sum(streams * mixing, axis=0)


def shortcut_of(x, filters, stride, selective_kernels):
    if not selective_kernels:
        return norm(conv(x, filters, 1, stride), relu=False)
    if stride > 1:
        x = tf.pad(x, [[0, 0], [0, 1], [0, 1], [0, 0]])
    x = v1.layers.average_pooling2d(x, 2, stride, padding="SAME" if stride == 1 else "VALID")
    return norm(conv(x, filters, 1), relu=False)


def block(x, filters, stride, first, selective_kernels):
    shortcut = shortcut_of(x, 4 * filters, stride, selective_kernels) if first else x
    x = norm(conv(x, filters, 1))
    x = selective(x, filters, stride) if selective_kernels else norm(conv(x, filters, 3, stride))
    return tf.nn.relu(norm(conv(x, 4 * filters, 1), relu=False) + shortcut)


def base_model(x, spec):
    channels, selective_kernels = spec["channels"], spec["selective_kernels"]
    with v1.variable_scope("base_model"):
        if selective_kernels:
            x = norm(conv(x, channels // 2, 3, 2))
            x = norm(conv(x, channels // 2, 3))
            x = norm(conv(x, channels, 3))
        else:
            x = norm(conv(x, channels, 7, 2))
        x = v1.layers.max_pooling2d(x, 3, 2, padding="SAME")
        for stage, count in enumerate(spec["blocks"]):
            for i in range(count):
                stride = 2 if stage and i == 0 else 1
                x = block(x, channels * 2**stage, stride, i == 0, selective_kernels)
        return tf.reduce_mean(x, [1, 2])


def head_contrastive(x, spec):
    """Outputs of nl_0, nl_1, nl_2."""
    outputs = []
    with v1.variable_scope("head_contrastive"):
        for i in range(3):
            with v1.variable_scope(f"nl_{i}"):
                last = i == 2
                width = spec["projection"] if last else x.shape[-1]
                x = norm(v1.layers.dense(x, width, use_bias=False), relu=not last, center=not last)
                outputs.append(x)
    return outputs


def head_supervised(x, spec):
    with v1.variable_scope("head_supervised"), v1.variable_scope("linear_layer"):
        return v1.layers.dense(x, spec["classes"])


def network(images, spec):
    """Every output by name. Which one the classifier reads is known from the step."""
    outputs = {"features": base_model(images, spec)}
    seen = outputs["features"]
    if spec["version"] == 2:
        outputs |= {f"nl_{i}": z for i, z in enumerate(head_contrastive(seen, spec))}
        if spec["step"] in (751, 3754):
            seen = outputs["nl_0"]
    outputs["logits"] = head_supervised(seen, spec)
    return outputs


def random_value(variable, gain, rng):
    """Kernels that give `gain` times the mean square of their inputs, and moving averages far from 0 and 1."""
    shape, name = variable.shape.as_list(), variable.op.name
    if name == "global_step":
        return None
    if name.endswith("kernel"):
        return rng.normal(0, np.sqrt(gain / np.prod(shape[:-1])), shape)
    if name.endswith(("gamma", "moving_variance")):
        return rng.uniform(0.5, 1.5, shape)
    return rng.normal(0, 0.3, shape)


def random_images(spec, rng):
    """8-bit pictures of coloured cells of 6 px under some noise, each brighter than the one before it.

    Of mere noise, the mean over the image would leave nothing to tell them apart by.
    """
    count, sides = spec["images"], (spec["height_px"], spec["width_px"])
    cells = rng.integers(0, 200, (count, *(side // 6 + 1 for side in sides), 3))
    pictures = cells.repeat(6, axis=1).repeat(6, axis=2)[:, : sides[0], : sides[1]]
    brightness = (1 + np.arange(count).reshape(-1, 1, 1, 1)) / count
    return ((pictures + rng.integers(0, 56, pictures.shape)) * brightness).astype(np.uint8)


def write_network(spec, folder):
    rng = np.random.default_rng(spec["seed"])
    with tf.Graph().as_default(), v1.Session() as session:
        inputs = v1.placeholder(tf.float32, [None, spec["height_px"], spec["width_px"], 3])
        outputs = {"raw": network(inputs, spec)}
        if spec["version"] == 2:
            with v1.variable_scope("ema_model"):
                outputs["ema"] = network(inputs, spec)
            for variable in v1.trainable_variables():
                if not variable.op.name.startswith("ema_model") and np.prod(variable.shape.as_list()) <= 64:
                    v1.get_variable(f"{variable.op.name}/Momentum", variable.shape, tf.float32, trainable=False)
        step = v1.train.get_or_create_global_step()
        session.run(step.assign(spec["step"]))
        for variable in v1.global_variables():
            value = random_value(variable, spec["gain"], rng)
            if value is not None:
                variable.load(value.astype(np.float32), session)
        saver = v1.train.Saver(v1.global_variables())
        saver.save(session, str(folder / "model.ckpt"), global_step=spec["step"], write_meta_graph=False)
        images = random_images(spec, rng)
        found = session.run(outputs, {inputs: np.float32(images) / 255})
    flat = {f"{copy}_{name}": value for copy, values in found.items() for name, value in values.items()}
    np.savez_compressed(folder / "outputs.npz", images=images, **flat)
    (folder / "spec.json").write_text(json.dumps(spec))


def write_dtypes(folder):
    """One variable of every type, a scalar, an empty one, and one cut into slices."""
    values = np.arange(6).reshape(2, 3) - 2.5
    types = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool")
    with tf.Graph().as_default(), v1.Session() as session:
        for name in types:
            numbers = tf.constant(np.abs(values) if name.startswith("uint") else values)
            v1.get_variable(f"of/{name}", initializer=tf.cast(numbers, name))
        v1.get_variable("scalar", initializer=tf.constant(7, tf.int64))
        v1.get_variable("empty", initializer=tf.zeros([0, 3]))
        v1.get_variable("text", initializer=tf.constant(["one", "two"]))
        v1.get_variable("sliced", [4, 3], initializer=v1.ones_initializer(), partitioner=v1.fixed_size_partitioner(2))
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(folder / "dtypes.ckpt"), write_meta_graph=False)


if __name__ == "__main__":
    if sys.argv[1] == "network":
        write_network(json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3]))
    else:
        write_dtypes(Path(sys.argv[2]))
