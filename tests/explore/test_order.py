"""Which image a row is: whatever happens to the table, a page's rows mean the same images."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_array_equal

from imagescape.collection.ingest import ingest
from imagescape.collection.results import ids_of
from imagescape.collection.store import Collection
from imagescape.collection.vectors import numbers_of
from imagescape.explore.order import Order, Orders, OrderUnknown
from tests.explore.conftest import picture


class TestOrder:
    def test_rows_by_id_worked_by_hand(self):
        order = Order(np.array([7, -3, 12], np.int64))
        assert order.rows_of(np.array([12, 7, 5, -3, 13, -9])).tolist() == [2, 0, -1, 1, -1, -1]
        assert order.ids(np.array([1])) == ["fffffffffffffffd"]
        assert Order(np.empty(0, np.int64)).rows_of(np.array([1])).tolist() == [-1]

    def test_the_token_is_of_the_sequence(self):
        one = Order(np.array([1, 2, 3]))
        assert one.token == Order(np.array([1, 2, 3])).token
        assert len({one.token, Order(np.array([1, 3, 2])).token, Order(np.array([1, 2])).token}) == 3

    def test_values_follow_their_images(self):
        """Rows that moved, came and went."""
        order = Order(np.array([1, 2, 3, 4]))
        ids = [f"{number:016x}" for number in (3, 9, 1, 4)]
        table = order.align(pa.table({"image_id": ids, "value": ["three", "nine", "one", "four"]}))
        assert table["value"].to_pylist() == ["one", None, "three", "four"]

    def test_an_empty_table_has_none_of_them(self):
        table = pa.table({"image_id": pa.array([], pa.string()), "value": pa.array([], pa.int64())})
        assert Order(np.array([1, 2])).align(table)["value"].to_pylist() == [None, None]


class TestTable:
    def test_an_append_shifts_nothing(self, scape, made, client, tmp_path):
        before = client.rows("/api/ids")["id"].to_numpy().view(np.int64)
        column, coords = client.rows("/api/column/label"), client.rows("/api/map/M")
        picture(77).save(tmp_path / "new.png")
        ingest([tmp_path / "new.png"], scape.path)
        assert client.rows("/api/ids")["id"].to_numpy().view(np.int64).tolist() == before.tolist()
        assert client.rows("/api/column/label").equals(column)
        assert_array_equal(client.rows("/api/map/M")["x"].to_numpy(), coords["x"].to_numpy())
        about = client.json("/api/about")
        assert (about["rows"], about["order"] != client.order) == (len(before) + 1, True)
        answer = client.get("/api/map/M", order=client.order)
        assert answer.headers["imagescape-order"] == about["order"]
        new = client.get("/api/ids", order=about["order"])
        assert pa.ipc.open_stream(new.content).read_all().num_rows == len(before) + 1
        found = client.rows("/api/find/where", q="status = 'ok'")["row"].to_pylist()
        assert max(found) < len(before)  # what the page does not know of is not found

    def test_rows_that_are_deleted_or_moved_stay_whose_they_were(self, scape, client, ids):
        labels = dict(zip(ids, scape.read(["label"])["label"].to_pylist(), strict=True))
        scape.delete([ids[2], ids[9]])
        column = client.rows("/api/column/label")
        import json

        names = json.loads(column.schema.metadata[b"names"])
        told = [names[code] if code >= 0 else None for code in column["code"].to_pylist()]
        assert told == [None if one in (ids[2], ids[9]) else labels[one] for one in ids]
        assert np.isnan(client.rows("/api/map/M")["x"].to_numpy()[[2, 9]]).all()
        coords = client.rows("/api/map/M")["x"].to_numpy()[10]
        assert coords == pytest.approx(scape.read(["x_M"], where=f"image_id = '{ids[10]}'")["x_M"][0].as_py())
        scape.compact()
        assert client.rows("/api/column/label").equals(column)

    def test_an_order_of_another_time_is_refused(self, client, refused, scape, ids):
        refused(client.get("/api/map/M", order="0" * 16), 409, "order_unknown")
        refused(client.get("/api/map/M"), 400, "input")
        assert "order" in refused(client.get("/api/ids"), 400, "input")

    def test_a_server_that_starts_anew_knows_the_table_again(self, scape, tmp_path):
        token = Orders(scape).now()[0].token
        shutil.copytree(scape.path, tmp_path / "copy.scape")
        again = Orders(Collection.open(tmp_path / "copy.scape"))
        assert_array_equal(again.get(token).numbers, numbers_of(ids_of(scape)))
        again._scape.delete(ids_of(scape)[:1])
        assert len(again.get(token)) == len(scape)  # this server has given it
        with pytest.raises(OrderUnknown, match="load all of it anew"):
            Orders(again._scape).get(token)

    def test_only_the_last_orders_are_remembered(self, scape, ids):
        orders = Orders(scape)
        tokens = [orders.now()[0].token]
        for image_id in ids[:9]:
            scape.delete([image_id])
            tokens.append(orders.now()[0].token)
        assert len(orders.get(tokens[-8])) == len(ids) - 2
        with pytest.raises(OrderUnknown):
            orders.get(tokens[0])
