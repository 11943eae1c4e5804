"""HuggingfaceContainer: data that no reader may hang on, be filled by or stumble over."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import zipfile

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from hfopt import PreconditionFailed
from hfopt_hf_data.files import readable
from hfopt_hf_data.limits import Limits

GOOD = b"text,label\ngood,1\nbad,0\n"
LIMITS = Limits(None, 10_000)


def said(prepare, **params):
    with pytest.raises(PreconditionFailed) as failure:
        prepare(**params)
    return str(failure.value)


def looked_at(tmp_path, data, kind="csv", limits=LIMITS, **options):
    (tmp_path / "rows").write_bytes(data)
    (tmp_path / "made").mkdir(exist_ok=True)
    with pytest.raises(PreconditionFailed) as failure:
        readable(tmp_path / "rows", kind, options, limits, tmp_path / "made")
    return str(failure.value).replace(str(tmp_path / "rows"), "FILE")


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "arrow", "text"])
def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path, kind):
    os.mkfifo(tmp_path / "rows.csv")

    with pytest.raises(PreconditionFailed, match=r"rows\.csv is a named pipe, not a regular file"):
        readable(tmp_path / "rows.csv", kind, {}, LIMITS, tmp_path)


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null"])
def test_a_link_to_a_device_is_refused(tmp_path, device):
    (tmp_path / "rows.csv").symlink_to(device)

    with pytest.raises(PreconditionFailed, match="is a device, not a regular file"):
        readable(tmp_path / "rows.csv", "csv", {}, LIMITS, tmp_path)


def test_a_link_out_of_a_data_folder_is_refused(prepare, tmp_path):
    (tmp_path / "outside.csv").write_bytes(GOOD)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.csv").symlink_to("../outside.csv")

    assert "which lies outside of" in said(prepare, data_name="./set", data_files=None)


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("a: &a [x]\nb: [*a, *a]", "aliases"),
        ("a: " + "[" * 20_000, "nested too deeply"),
        ("configs: !!python/object/apply:os.getcwd []", "its metadata are not YAML"),
        ("a: [", "its metadata are not YAML"),
        ("configs:\n- config_name: default\n  data_files: ../outside.csv", "which lies outside of"),
    ],
)
def test_a_card_that_is_hostile_is_refused(prepare, tmp_path, card, message):
    (tmp_path / "outside.csv").write_bytes(GOOD)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.csv").write_bytes(GOOD)
    (tmp_path / "set" / "README.md").write_text(f"---\n{card}\n---\n")

    assert message in said(prepare, data_name="./set", data_files=None)


def test_a_script_beside_the_data_is_not_run(prepare, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')")

    assert "set is loaded by a script of its own" in said(prepare, data_name="./set", data_files=None)
    assert not (tmp_path / "executed").exists()


class Executed:
    """Pickled code."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, "w")


@pytest.mark.parametrize("kind", ["csv", "json", "parquet", "arrow", "text"])
def test_a_pickle_is_never_loaded(prepare, tmp_path, kind):
    (tmp_path / "rows.csv").write_bytes(pickle.dumps(Executed(str(tmp_path / "executed"))))

    assert "rows.csv" in said(prepare, data_name=kind)
    assert not (tmp_path / "executed").exists()


def test_a_pickle_in_the_type_of_an_arrow_column_is_never_loaded(prepare, tmp_path):
    metadata = pickle.dumps(Executed(str(tmp_path / "executed")))
    about = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": metadata}
    schema = pyarrow.schema([pyarrow.field("text", pyarrow.string(), metadata=about)])
    with pyarrow.ipc.new_file(tmp_path / "rows.csv", schema) as writer:
        writer.write_table(pyarrow.table([["good"]], schema=schema))

    assert len(prepare(data_name="arrow", label_cols=None)) == 1
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("csv", b"", "FILE is empty"),
        ("csv", b"text\n\xff\n", "FILE, line 2, character 1 is not text in UTF-8 (byte 0xff)"),
        ("csv", "text\n".encode("utf-16"), "FILE, line 1, character 1 is not text in UTF-8 (byte 0xff)"),
        ("text", b"a\nb\0\n", "FILE, line 2 holds a NUL character"),
        ("csv", b"text\n" + b"x" * 20_000, "FILE, line 2 is longer than 10,000 bytes, the limit"),
        ("csv", b'text\n"' + b"x\n" * 20_000, "a field, perhaps one whose quotes never end, is longer than 10,000"),
        ("csv", b"text,label\na,1\nb,c,0\n", "FILE, line 3 has 3 fields, and the first line names 2"),
        ("json", b'{"a": NaN}\n', "FILE, line 1 holds NaN, which is no number in JSON"),
        ("json", b'[{"a": -Infinity}]', "FILE, row 0 holds -Infinity, which is no number in JSON"),
        ("json", b'{"a": "\\ud800"}\n', "FILE, line 1 holds one half of a character (a surrogate"),
        ("json", b'{"a": ' + b"9" * 5_000 + b"}", "FILE, line 1 holds an integer of too many digits"),
        ("json", b"[" * 5_000, "FILE, row 0 is nested too deeply"),
        ("json", b'{"a": 1}\n{oops\n', "FILE, line 2 is not JSON"),
        ("json", b'{"a": 1}\n7\n', "FILE, line 2 is not an object"),
        ("json", b"[1]", "FILE, row 0 is not an object"),
        ("json", b'[{"a": 1} {"a": 2}]', "FILE, row 1 is not JSON"),
        ("json", b'[{"a": 1},', "FILE, row 1 is not JSON"),
        ("json", b'[{"a": "' + b"x" * 2_000_000 + b'"}]', "FILE, row 0 is"),
        ("json", b'{"a":\n[' + b"1,\n" * 20_000 + b"1]}", "one JSON value is longer than 10,000"),
        ("parquet", GOOD, "FILE can't be read as parquet"),
        ("csv", b"PK\x03\x04", "FILE is a zip archive, which hfopt does not read"),
        ("csv", gzip.compress(gzip.compress(GOOD, mtime=0), mtime=0), "FILE is compressed twice"),
        ("csv", gzip.compress(GOOD, mtime=0)[:-9], "FILE can't be decompressed"),
    ],
)
def test_what_can_t_be_read_is_said_with_its_place(tmp_path, kind, data, message):
    assert message in looked_at(tmp_path, data, kind)


def test_what_a_compressed_file_may_hold_is_limited_and_the_option_raises_it(prepare, tmp_path):
    with gzip.open(tmp_path / "rows.csv", "wb") as stream:
        stream.write(GOOD)
    big = gzip.compress(b"x\n" * 60_000_000, 1)

    assert len(prepare()) == 2
    assert "set max_bytes to more" in said(prepare, max_bytes=10, folder="small")
    assert "bytes decompressed, which is the limit" in looked_at(tmp_path, big)


def test_a_long_text_is_refused_with_its_row_and_the_option_raises_it(prepare, tmp_path):
    parquet.write_table(pyarrow.table({"text": ["a", "x" * 200], "label": [0, 1]}), tmp_path / "rows.csv")

    assert "a value of column 'text' is longer than 100 bytes" in said(
        prepare, data_name="parquet", max_field_bytes=100
    )
    assert len(prepare(data_name="parquet", max_field_bytes=200, folder="more")) == 2


def test_a_few_bytes_of_parquet_can_t_stand_for_any_number_of_bytes(tmp_path):
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 50_000, pyarrow.int32()), ["x" * 9_000])
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "made.parquet")

    assert "set max_bytes to more" in looked_at(tmp_path, (tmp_path / "made.parquet").read_bytes(), "parquet")


@pytest.mark.parametrize("name", ["rows[1]*?.csv", "a%20{b}.csv", "ro\nws.csv", "zip:a.csv::b.csv", ".rows.csv"])
def test_a_file_may_have_any_name(prepare, tmp_path, name):
    (tmp_path / name).write_bytes(GOOD)

    assert len(prepare(data_files=name)) == 2


@pytest.mark.parametrize(
    ("label", "message"),
    [("1e30", "row 0: label 1e+30"), ("inf", "row 0: label inf is neither"), ("x" * 5_000, "row 0: label 'xxx")],
)
def test_a_label_that_is_no_class_is_told_briefly(prepare, write_csv, label, message):
    write_csv(("good", label))

    told = said(prepare, input_cols="text")

    assert message in told
    assert len(told) < 600


def test_very_many_columns_are_not_all_told(prepare, write_csv):
    write_csv(("1",) * 300, header=",".join(f"c{number}" for number in range(300)))

    assert "and 280 more" in said(prepare, input_cols="text")


def test_a_zip_of_data_is_to_be_unpacked(prepare, tmp_path):
    with zipfile.ZipFile(tmp_path / "rows.csv", "w") as archive:
        archive.writestr("../../out.csv", GOOD)

    assert "hint: unpack it" in said(prepare)


def test_an_array_of_objects_gives_the_rows_that_lines_give(prepare, tmp_path):
    rows = [{"text": "good \u00e9 ]", "label": 1}, {"text": 'bad "film",', "label": 0}] * 20
    (tmp_path / "array.json").write_text("\ufeff " + json.dumps(rows, indent=1), "utf-8")
    (tmp_path / "lines.json").write_text("\n".join(map(json.dumps, rows)))

    as_array = prepare(data_name="json", data_files="array.json")
    as_lines = prepare(data_name="json", data_files="lines.json", folder="lines")

    assert [each.feeds["input_ids"].tolist() for each in as_array.batches()] == [
        each.feeds["input_ids"].tolist() for each in as_lines.batches()
    ]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(["csv", "json", "text", "parquet"]), data=st.binary(max_size=200) | st.text().map(str.encode)
)
def test_whatever_a_file_holds_it_is_read_or_refused_in_a_sentence(tmp_path, kind, data):
    (tmp_path / "rows").write_bytes(data)
    (tmp_path / "made").mkdir(exist_ok=True)

    try:
        assert readable(tmp_path / "rows", kind, {}, LIMITS, tmp_path / "made").path.stat().st_size
    except PreconditionFailed as error:
        told = error.message
    else:
        return
    assert str(tmp_path / "rows") in told
