"""Datasets and tokenizers by name: what of a dataset is fetched from a hub, and how its rows are read."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hfopt import PreconditionFailed, Reference
from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_hf_data.config import HuggingfaceContainerConfig

CARD = b"""---
configs:
- config_name: cola
  data_files:
  - {split: train, path: cola/train.csv}
- config_name: mrpc
  sep: ";"
  data_files:
  - {split: train, path: mrpc/train.csv}
  - {split: validation, path: "mrpc/validation*.csv"}
dataset_info:
- config_name: cola
  features:
  - {name: text, dtype: string}
  - {name: label, dtype: int64}
- config_name: mrpc
  features:
  - {name: text, dtype: string}
  - name: label
    dtype: {class_label: {names: {"0": fresh, "1": rotten}}}
---
# Films
"""
GLUE = {
    "README.md": CARD,
    "cola/train.csv": b"text,label\ngood,1\n",
    "mrpc/train.csv": b"text;label\na good film;0\n",
    "mrpc/validation-1.csv": b"text;label\na bad, bad film;1\n",
    "mrpc/validation-2.csv": b"text;label\na film;0\nbad;1\n",
}
PROGRAM = """
import json, sys
from pathlib import Path
from hfopt import PreconditionFailed
from hfopt.api.resources import ResourceContext
from hfopt_hf_data.dataset import HfDataset, HfDatasetConfig

requests, offline = json.loads(sys.argv[1])
context = ResourceContext(offline, lambda *_: None)
answers = []
for folder, options in requests:
    dataset = HfDataset(HfDatasetConfig(**options))
    try:
        resolved = dataset.resolve(context)
        Path(folder).mkdir()
        answers.append([vars(resolved), dataset.fetch(resolved.pin, Path(folder), context)])
    except PreconditionFailed as failure:
        answers.append([failure.message, failure.hint])
print(json.dumps(answers))
"""


@pytest.fixture
def get(hub, tmp_path):
    """Resolves and fetches datasets into folders named by their place in the list, in a process of its own."""

    def resolve_and_fetch(*options, offline=False, to="out"):
        requests = [[str(tmp_path / f"{to}{n}"), each] for n, each in enumerate(options)]
        environment = {**os.environ, **hub.environment} | ({"HF_HUB_OFFLINE": "1"} if offline else {})
        command = [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps([requests, offline])]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return resolve_and_fetch


def data_of(folder) -> set[str]:
    return {p.relative_to(folder / "data").as_posix() for p in (folder / "data").rglob("*") if p.is_file()}


MRPC = {"name": "acme/glue", "subset": "mrpc"}


def test_only_the_files_of_the_wanted_subset_and_splits_are_fetched_and_read_as_the_card_says(
    hub, get, prepare, tmp_path
):
    commit = hub.add_dataset("acme/glue", GLUE)

    ((resolved, report),) = get(MRPC)

    assert resolved == {
        "identity": f"hf:dataset/acme/glue@{commit}:mrpc:",
        "pin": commit,
        "notice": f"acme/glue: revision main is {commit[:12]}",
    }
    assert data_of(tmp_path / "out0") == {"mrpc/validation-1.csv", "mrpc/validation-2.csv"}
    assert (report["files"], report["copied"]) == (2, 0)
    asked = {request.path.partition(f"/{commit}/")[2] for request in hub.requests if "/resolve/" in request.path}
    assert asked == {"README.md", "mrpc/validation-1.csv", "mrpc/validation-2.csv"}
    rows = prepare(data_name=str(tmp_path / "out0"), data_files=None, subset="mrpc")
    assert [batch.labels.tolist() for batch in rows.batches()] == [[0], [1], [0]]  # by the names in the card


def test_offline_a_fetched_dataset_is_there_again_and_nothing_is_asked(hub, get, tmp_path):
    hub.add_dataset("acme/glue", GLUE)
    both = {**MRPC, "split": "train+validation"}
    get(both)
    before = len(hub.requests)

    (_, report), (message, hint) = get(
        both, {"name": "acme/glue", "subset": "cola", "split": "train"}, offline=True, to="off"
    )

    assert report["files"] == 3
    assert data_of(tmp_path / "off0") == data_of(tmp_path / "out0")
    assert message.startswith("the hub cache does not have all of acme/glue at ")
    assert "--offline" in hint
    assert len(hub.requests) == before


def test_names_that_are_not_there_are_told_with_near_misses_and_scripts_are_refused(hub, get, tmp_path):
    hub.add_dataset("acme/glue", GLUE)
    hub.add_dataset("acme/script", {"script.py": b"raise SystemExit", "data.csv": b"text\na\n"})
    hub.add_dataset("acme/films", {"train/a.mp4": b"", "train/b.mp4": b""})
    elsewhere = CARD.replace(b"cola/train.csv", b"https://example.org/a.csv")
    hub.add_dataset("acme/elsewhere", {**GLUE, "README.md": elsewhere})
    (tmp_path / "secret.csv").write_text("text,label\nmine,1\n")
    outside = CARD.replace(b"mrpc/train.csv", str(tmp_path / "secret.csv").encode())
    hub.add_dataset("acme/outside", {**GLUE, "README.md": outside})

    answers = get(
        {"name": "acme/glue", "subset": "mrcp"},
        {"name": "acme/glue"},
        {**MRPC, "split": "validaton"},
        {"name": "acme/none"},
        {"name": "acme/script"},
        {"name": "acme/films", "split": "train"},
        {"name": "acme/elsewhere", "subset": "mrpc"},
        {"name": "acme/outside", "subset": "mrpc"},
    )

    assert answers[:4] == [
        ["acme/glue has no subset 'mrcp'; it has cola, mrpc", "did you mean 'mrpc'?"],
        ["acme/glue has several subsets: cola, mrpc", "set subset: cola"],
        [
            "acme/glue, subset mrpc, has no split 'validaton'; it has train, validation",
            "did you mean 'validation'?",
        ],
        [
            "the hub has no dataset 'acme/none' that is open to you",
            "check the name (there is no local folder of that name either); "
            "a private one needs HF_TOKEN or `hf auth login`",
        ],
    ]
    assert "a script of its own" in answers[4][0]
    assert "refs/convert/parquet" in answers[4][1]
    assert answers[5][0].startswith("acme/films is in the format videofolder; hfopt reads arrow, csv, json, parquet,")
    assert answers[6][0] == "acme/elsewhere names data that lie elsewhere, which hfopt does not fetch"
    assert answers[7][0] == f"acme/outside names '{tmp_path}/secret.csv', which is not in its folder"


def test_the_hub_s_parquet_branch_and_old_names_and_datasets_without_a_card_work(hub, get, prepare, tmp_path):
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["good"], "label": [1]}), tmp_path / "rows.parquet")
    rows = (tmp_path / "rows.parquet").read_bytes()
    converted = {f"{subset}/{split}/0000.parquet": rows for subset in ("a", "b") for split in ("train", "test")}
    hub.add_dataset("acme/glue", converted, branch="refs/convert/parquet")
    hub.add_dataset("acme/plain", {"train.jsonl": b'{"text": "good", "label": 1}\n', "test.jsonl": b""})
    hub.rename("dataset", "glue", "acme/glue")

    get(
        {"name": "glue", "subset": "b", "split": "test", "revision": "refs/convert/parquet"},
        {"name": "acme/plain", "split": "train"},
    )

    assert data_of(tmp_path / "out0") == {"b/test/0000.parquet"}
    assert data_of(tmp_path / "out1") == {"train.jsonl"}
    assert len(prepare(data_name=str(tmp_path / "out0"), data_files=None, split="test", folder="a")) == 1
    assert len(prepare(data_name=str(tmp_path / "out1"), data_files=None, split="train", folder="b")) == 1


def test_of_a_stream_only_the_parquet_files_that_hold_its_rows_are_fetched(hub, get, tmp_path):
    import pyarrow
    import pyarrow.parquet

    files = {}
    for number in range(4):
        held = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"text": ["good"] * 5, "label": [0] * 5}), held)
        files[f"data/train-{number}-of-4.parquet"] = held.getvalue()
    hub.add_dataset("acme/shards", files)

    few, more = get(*({"name": "acme/shards", "split": "train", "rows": rows} for rows in (5, 6)))

    assert [report["files"] for _, report in (few, more)] == [1, 2]


def read(folder, **params):
    problems, around = [], ConfigContext(folder)
    config = validate(HuggingfaceContainerConfig, params, (), problems, around)
    assert problems == []
    return config, around


def test_names_that_are_no_folders_become_references(tmp_path):
    nested = {"load_dataset": {"data_name": "glue", "subset": "mrpc", "split": "train[:10]+test", "revision": "v1"}}

    config, around = read(tmp_path, component_kwargs=nested, model_name="acme/tiny")

    options = {"name": "glue", "subset": "mrpc", "split": "test+train", "revision": "v1"}
    assert config.data_name == Reference("hf_dataset", options).token
    model = {"name": "acme/tiny", "revision": None, "weights": False}
    assert config.model_name == Reference("hf_model", model).token
    assert around.used_paths == []
    again, _ = read(tmp_path, **config.model_dump(exclude={"revision"}))
    assert (again.data_name, again.model_name) == (config.data_name, config.model_name)


def test_a_local_folder_of_that_name_wins_with_a_notice_and_is_read_by_its_card(prepare, tmp_path):
    for path, content in GLUE.items():
        (tmp_path / "glue" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "glue" / path).write_bytes(content)

    config, around = read(tmp_path, data_name="glue", subset="mrpc")

    assert config.data_name == str(tmp_path / "glue")
    assert around.used_paths == [tmp_path / "glue"]
    assert around.notices == ["glue: the local folder of that name is taken, not the dataset on the hub"]
    rows = prepare(data_name="glue", data_files=None, subset="mrpc")
    assert [batch.labels.tolist() for batch in rows.batches()] == [[0], [1], [0]]  # by the names in the card
    with pytest.raises(PreconditionFailed) as failure:
        prepare(data_name="glue", data_files=None, subset="mrpc", split="test", folder="other")
    assert failure.value.message == "the data have no split 'test'; they have train, validation"


def test_arrow_files_are_read(prepare, tmp_path):
    import datasets

    datasets.Dataset.from_dict({"text": ["good", "bad"], "label": [1, 0]}).save_to_disk(tmp_path / "saved")
    (file,) = Path(tmp_path / "saved").glob("*.arrow")

    assert len(prepare(data_name="arrow", data_files=str(file))) == 2
