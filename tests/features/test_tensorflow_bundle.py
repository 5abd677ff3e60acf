"""TensorFlow checkpoints against ones that TensorFlow wrote, ones put together byte by byte, and broken ones.

`data/dtypes` is what `tensorflow_oracle.py dtypes` wrote with TensorFlow 2.21.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagescape.errors import CheckpointError
from imagescape.features.crc32c import crc32c
from imagescape.features.tensorflow_bundle import Bundle, Index
from tests.features.bundle_writer import entry, masked, message, slow_crc32c, table, write_bundle

DTYPES = Path(__file__).parent / "data" / "dtypes"


@pytest.fixture
def dtypes(tmp_path):
    return Path(shutil.copytree(DTYPES, tmp_path / "dtypes"))


def crc_of(data: bytes) -> int:
    return crc32c(np.frombuffer(data, np.uint8))


class TestCRC32C:
    @pytest.mark.parametrize(
        ("data", "crc"),
        [
            (b"", 0),
            (b"123456789", 0xE3069283),
            (bytes(32), 0x8A9136AA),
            (b"\xff" * 32, 0x62A8AB43),
            (bytes(range(32)), 0x46DD794E),
            (bytes(range(31, -1, -1)), 0x113FDB5C),
        ],
    )
    def test_values_of_rfc_3720(self, data, crc):
        assert crc_of(data) == crc

    @given(st.binary(max_size=300))
    def test_is_that_of_one_byte_after_the_other(self, data):
        assert crc_of(data) == slow_crc32c(data)

    @pytest.mark.parametrize("size", [(1 << 18) - 1, 1 << 18, (1 << 18) + 1, (1 << 19) + 12345])
    def test_pieces_are_joined(self, size):
        data = np.random.default_rng(size).bytes(size)
        assert crc_of(data) == slow_crc32c(data)

    def test_sees_zeros_in_front_and_behind(self):
        assert len({crc_of(data) for data in (b"a", b"\0a", b"a\0", b"\0\0a", b"a\0\0")}) == 5

    def test_reads_what_is_not_contiguous(self):
        data = np.arange(200, dtype=np.uint8)
        assert crc32c(data[::2]) == slow_crc32c(data[::2].tobytes())


class TestWhatTensorFlowWrote:
    VALUES = np.arange(6).reshape(2, 3) - 2.5

    @pytest.mark.parametrize(
        "name", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool"]
    )
    def test_types_numpy_has(self, name):
        expected = (np.abs(self.VALUES) if name.startswith("uint") else self.VALUES).astype(name)
        bundle = Bundle(DTYPES)
        got = bundle.read(f"of/{name}")
        assert bundle.dtype(f"of/{name}") == name == got.dtype.name
        np.testing.assert_array_equal(got, expected)

    def test_bfloat16_comes_as_float32(self):
        bundle = Bundle(DTYPES)
        assert bundle.dtype("of/bfloat16") == "bfloat16"
        got = bundle.read("of/bfloat16")
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, self.VALUES)

    def test_scalars_and_empty_tensors(self):
        bundle = Bundle(DTYPES)
        assert bundle.read("scalar").shape == () == bundle.shape("scalar")
        assert int(bundle.read("scalar")) == 7
        assert bundle.read("empty").shape == (0, 3)

    def test_names_are_sorted_and_pieces_of_slices_are_none(self):
        bundle = Bundle(DTYPES)
        assert bundle.names() == sorted(bundle.names())
        assert len(bundle.names()) == 15
        assert "scalar" in bundle
        assert "of" not in bundle

    def test_what_cannot_be_read_is_refused_by_name(self):
        bundle = Bundle(DTYPES)
        assert (bundle.shape("sliced"), bundle.dtype("text")) == ((4, 3), "string")
        with pytest.raises(CheckpointError, match=r"'sliced' in .*dtypes\.ckpt is stored in slices.*partition"):
            bundle.read("sliced")
        with pytest.raises(CheckpointError, match=r"'text' in .*holds values of string"):
            bundle.read("text")
        with pytest.raises(CheckpointError, match=r"no variable 'of/int3' in .*dtypes\.ckpt"):
            bundle.read("of/int3")

    def test_tensors_are_mapped_not_copied_and_not_written_to(self):
        values = Bundle(DTYPES).read("of/float32")
        assert not values.flags.writeable
        while not isinstance(values, np.memmap):
            values = values.base


class TestSources:
    @pytest.mark.parametrize(
        "name", ["", "dtypes.ckpt", "dtypes.ckpt.index", "dtypes.ckpt.meta", "dtypes.ckpt.data-00000-of-00001"]
    )
    def test_a_checkpoint_is_found_by_any_of_its_names(self, name):
        assert Bundle(DTYPES / name).path == DTYPES / "dtypes.ckpt"

    def test_nothing_and_too_much(self, dtypes, tmp_path):
        with pytest.raises(CheckpointError, match=r"nowhere\.ckpt\.index cannot be read \(No such file"):
            Bundle(tmp_path / "nowhere.ckpt")
        shutil.copy(dtypes / "dtypes.ckpt.index", dtypes / "more.ckpt.index")
        with pytest.raises(CheckpointError, match=r"holds several: dtypes\.ckpt, more\.ckpt; name one"):
            Bundle(dtypes)
        (tmp_path / "none").mkdir()
        with pytest.raises(CheckpointError, match="it holds none"):
            Bundle(tmp_path / "none")

    def test_the_file_of_tensors_is_missing(self, dtypes):
        (dtypes / "dtypes.ckpt.data-00000-of-00001").unlink()
        with pytest.raises(CheckpointError, match=r"needs dtypes\.ckpt\.data-00000-of-00001 beside it"):
            Bundle(dtypes)


class TestDamage:
    def test_a_short_file_of_tensors_is_told_at_once(self, dtypes):
        path = dtypes / "dtypes.ckpt.data-00000-of-00001"
        whole = path.stat().st_size
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CheckpointError, match=rf"00001 is cut short: .* take {whole} bytes, it has {whole - 1}"):
            Bundle(dtypes)

    def test_a_changed_bit_of_a_tensor_is_told_when_it_is_read(self, dtypes):
        path = dtypes / "dtypes.ckpt.data-00000-of-00001"
        content = bytearray(path.read_bytes())
        at = content.index(np.float32([-2.5, -1.5]).tobytes())
        content[at] ^= 1
        path.write_bytes(content)
        bundle = Bundle(dtypes)
        with pytest.raises(CheckpointError, match=r"'of/float32' in .*00001 is damaged: its checksum"):
            bundle.read("of/float32")
        assert bundle.read("of/float32", verify=False)[0, 1] == -1.5
        assert bundle.read("of/float64")[0, 0] == -2.5

    def test_a_changed_byte_of_the_index_never_passes(self, tmp_path):
        content = (DTYPES / "dtypes.ckpt.index").read_bytes()
        whole = Index.read(DTYPES / "dtypes.ckpt.index").entries
        path, harmless = tmp_path / "broken.index", 0
        for at in range(len(content)):
            path.write_bytes(content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :])
            try:
                assert Index.read(path).entries == whole
                harmless += 1
            except CheckpointError as error:
                assert "broken.index is damaged" in str(error)  # noqa: PT017 - or it is harmless
        assert harmless < 60, "only the padding of the footer and the empty meta-index may change"

    @settings(max_examples=60)
    @given(st.integers(0, 597))
    def test_an_index_cut_anywhere_never_passes(self, tmp_path_factory, length):
        path = tmp_path_factory.mktemp("cut") / "cut.index"
        path.write_bytes((DTYPES / "dtypes.ckpt.index").read_bytes()[:length])
        with pytest.raises(CheckpointError, match=r"cut\.index is damaged or no TensorFlow"):
            Index.read(path)

    @given(st.binary(max_size=200))
    def test_any_bytes_between_a_head_and_a_footer(self, tmp_path_factory, noise):
        path = tmp_path_factory.mktemp("noise") / "noise.index"
        path.write_bytes(noise + (DTYPES / "dtypes.ckpt.index").read_bytes()[-48:])
        with pytest.raises(CheckpointError):
            Index.read(path)


class TestPutTogether:
    def test_many_blocks_and_shards(self, tmp_path):
        rng = np.random.default_rng(0)
        names = [f"scope/layer_{i}/{part}" for i in range(40) for part in ("kernel", "bias")]
        tensors = {name: rng.normal(size=(i % 5 + 1, 2)) for i, name in enumerate(names)}
        bundle = Bundle(write_bundle(tmp_path / "many", tensors, shards=3))
        assert bundle.names() == sorted(names)
        for name, values in tensors.items():
            np.testing.assert_array_equal(bundle.read(name), values)

    def test_shards_are_told_apart(self, tmp_path):
        prefix = write_bundle(tmp_path / "two", {"a": np.float32([1]), "b": np.float32([2])}, shards=2)
        (tmp_path / "two.data-00001-of-00002").unlink()
        with pytest.raises(CheckpointError, match=r"needs two\.data-00001-of-00002"):
            Bundle(prefix)

    def test_tensors_may_begin_anywhere(self, tmp_path):
        tensors = {"odd": np.frombuffer(b"abc", np.int8).astype(np.float16), "even": np.float64([1.5, -2])}
        np.testing.assert_array_equal(Bundle(write_bundle(tmp_path / "odd", tensors)).read("even"), [1.5, -2])

    @pytest.mark.parametrize(
        ("header", "options", "message_"),
        [
            (message((1, 1), (2, 1)), {}, "big-endian"),
            (message((1, 1)), {"compression": 1}, "compressed"),
            (b"\x0f\x00", {}, "unknown kind 7"),
        ],
    )
    def test_what_tensorflow_never_writes(self, tmp_path, header, options, message_):
        path = tmp_path / "odd.index"
        path.write_bytes(table({b"": header}, **options))
        with pytest.raises(CheckpointError, match=message_):
            Index.read(path)

    def test_a_table_without_a_header_is_another_table(self, tmp_path):
        (tmp_path / "leveldb.index").write_bytes(table({b"key": b"value"}))
        with pytest.raises(CheckpointError, match="no TensorFlow checkpoint index"):
            Index.read(tmp_path / "leveldb.index")

    @pytest.mark.parametrize(
        ("dtype", "message_"),
        [(99, "holds values of type 99"), (2, r"has 8 bytes, which are no float64 of shape \(2,\)")],
    )
    def test_wrong_types(self, tmp_path, dtype, message_):
        values = np.float32([1, 2])
        record = entry(values, 0, crc=masked(values.tobytes()), dtype=dtype)
        (tmp_path / "wrong.index").write_bytes(table({b"": message((1, 1)), b"x": record}))
        (tmp_path / "wrong.data-00000-of-00001").write_bytes(values.tobytes())
        with pytest.raises(CheckpointError, match=message_):
            Bundle(tmp_path / "wrong").read("x")
