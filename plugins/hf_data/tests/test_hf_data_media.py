"""Images and sounds: where they are found, what becomes of them, and what is told of those that can't be read."""

from __future__ import annotations

import io
import json

import datasets
import numpy as np
import pytest
import soundfile
from PIL import Image

from hfopt import PreconditionFailed

RATE = 16_000


@pytest.fixture
def model(tmp_path):
    """A folder with processors of images of 4 x 4 and of sound at 16 kHz, each by itself, and two classes."""
    folder = tmp_path / "model"
    folder.mkdir()
    classes = {"label2id": {"cat": 0, "dog": 1}, "id2label": {"0": "cat", "1": "dog"}}
    (folder / "config.json").write_text(json.dumps({"model_type": "vit", **classes}))

    def of(kind, **settings):
        known = {
            "image": {"image_processor_type": "ViTImageProcessor", "size": {"height": 4, "width": 4}},
            "sound": {
                "feature_extractor_type": "Wav2Vec2FeatureExtractor",
                "sampling_rate": RATE,
                "do_normalize": False,
            },
        }
        (folder / "preprocessor_config.json").write_text(json.dumps(known[kind] | settings))
        return folder

    return of


@pytest.fixture
def paint(tmp_path):
    """Writes an image of one colour."""

    def painted(path, colour, size=(9, 7), **options):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size, colour).save(tmp_path / path, **options)

    return painted


@pytest.fixture
def play(tmp_path):
    """Writes a tone as a sound file."""

    def played(path, pitch=440, rate=RATE, seconds=0.5, channels=1):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        tone = 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(rate * seconds)) / rate)
        soundfile.write(tmp_path / path, np.stack([tone * (2 - 2 * each) for each in range(channels)], 1), rate)

    return played


@pytest.fixture
def seen(prepare, model):
    def of(**params):
        return prepare(
            task="image-classification", model=model("image"), **{"data_files": None, "label_cols": None, **params}
        )

    return of


@pytest.fixture
def heard(prepare, model):
    def of(settings=None, **params):
        written = {"data_files": None, "label_cols": None, **params}
        return prepare(task="audio-classification", model=model("sound", **(settings or {})), **written)

    return of


def labels_of(data):
    return [int(batch.labels[0]) for batch in data.batches()]


def shade_of(data):
    """The mean of each image's pixels: about -1 for black and 1 for white."""
    return [round(float(batch.feeds["pixel_values"].mean())) for batch in data.batches()]


@pytest.mark.parametrize("how", ["imagefolder", "folder", "files"])
def test_images_of_a_folder_have_its_name_for_a_class(seen, paint, tmp_path, how):
    for number, kind in enumerate(("dog", "cat", "dog[*]")):
        paint(f"photos/{kind}/{number}.png", "white" if kind == "cat" else "black")
    (tmp_path / "photos" / "dog[*]").rename(tmp_path / "photos" / "Dog")
    files = [f"photos/{path}" for path in ("Dog/2.png", "cat/1.png", "dog/0.png")]
    params = {
        "imagefolder": {"data_name": "imagefolder", "data_dir": "photos"},
        "folder": {"data_name": "./photos"},
        "files": {"data_name": "imagefolder", "data_files": files},
    }[how]

    data = seen(**params, label_cols="label", batch_size=1)

    assert sorted(zip(labels_of(data), shade_of(data), strict=True)) == [(0, 1), (1, -1), (1, -1)]
    assert next(data.batches()).feeds["pixel_values"].shape == (1, 3, 4, 4)
    assert next(data.batches()).feeds["pixel_values"].dtype == np.float32
    assert [len(batch.rows) for batch in data.batches(size=2)] == [2, 1]


def test_splits_are_folders_and_may_be_cut(seen, paint):
    for number in range(4):
        paint(f"photos/test/{('cat', 'dog')[number % 2]}/{number}.png", "black")
        paint(f"photos/train/cat/{number}.png", "white")

    data = seen(data_name="imagefolder", data_dir="photos", split="train[:25%]+test[-3:]", label_cols="label")

    assert shade_of(data) == [1, -1, -1, -1]


def test_a_table_beside_the_files_says_what_they_are(seen, paint, tmp_path):
    paint("photos/b.png", "white")
    paint("photos/sub/a.jpg", "black")
    (tmp_path / "photos" / "metadata.csv").write_text("file_name,animal\nsub/a.jpg,dog\nb.png,cat\n")

    data = seen(data_name="imagefolder", data_dir="photos", label_cols="animal")

    assert (labels_of(data), shade_of(data)) == ([1, 0], [-1, 1])


def test_images_may_stand_in_the_rows_and_are_turned_as_people_see_them(seen, tmp_path):
    turned = Image.new("RGB", (8, 4), "black")
    turned.paste("white", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    held = io.BytesIO()
    turned.save(held, "png", exif=exif)
    features = datasets.Features({"photo": datasets.Image(), "animal": datasets.ClassLabel(names=["dog", "cat"])})
    rows = {"photo": [{"bytes": held.getvalue(), "path": None}], "animal": [1]}
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "rows.parquet")

    data = seen(data_name="parquet", data_files="rows.parquet", label_cols="animal")

    (batch,) = data.batches()
    assert batch.labels.tolist() == [0]
    assert batch.feeds["pixel_values"][0, 0, 0, [0, -1]].tolist() == pytest.approx([-1, 1], abs=0.2)


def refusal(made, *paths, **params):
    with pytest.raises(PreconditionFailed) as failure:
        made(**params)
    message = failure.value.message
    for path in paths:
        message = message.replace(f"{path}/", "")
    return message, failure.value.hint


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("../secret.png", "row 0: photos/../secret.png is at secret.png, which lies outside of"),
        ("none.png", "row 0: photos/none.png: no such file"),
        ("text.png", "row 0 (photos/text.png) is no image that Pillow reads: cannot identify image file"),
        ("", "row 0 has None in column 'file', and no file"),
    ],
)
def test_images_that_are_none_are_told(seen, paint, tmp_path, path, said):
    paint("secret.png", "white")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "text.png").write_text("no image")
    (tmp_path / "rows.csv").write_text(f"file,label\n{path},cat\n")

    params = {"data_name": "csv", "data_files": "rows.csv", "data_dir": "photos", "input_cols": "file"}
    message, _ = refusal(seen, tmp_path, **params)

    assert message.startswith(f"rows.csv: {said}")


def test_what_is_missing_to_find_images_is_told(seen, tmp_path):
    (tmp_path / "rows.csv").write_text("file,label\na.png,cat\n")
    csv = {"data_name": "csv", "data_files": "rows.csv"}

    assert refusal(seen, tmp_path, **csv, folder="a") == (
        "rows.csv: which column holds the image? The columns are file, label",
        "set input_cols",
    )
    assert refusal(seen, tmp_path, **csv, input_cols="file", folder="b") == (
        "rows.csv: column 'file' names files, such as 'a.png'",
        "set data_dir to the folder in which they lie",
    )
    (tmp_path / "empty").mkdir()
    message, _ = refusal(seen, tmp_path, data_name="imagefolder", data_dir="empty", folder="c")
    assert message.startswith("empty has no files that hfopt reads")


def test_a_model_without_a_processor_says_so(prepare, model_folder, play):
    play("clips/a.wav")
    for task, what in (("image-classification", "image processor"), ("audio-classification", "feature extractor")):
        params = {"data_name": "audiofolder", "data_dir": "clips", "data_files": None}
        with pytest.raises(PreconditionFailed, match=f"has no {what} that transformers can read: "):
            prepare(task, task=task, model=model_folder, **params)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
def test_sounds_are_resampled_and_their_channels_are_one(heard, play, rate):
    play("clips/a.wav", 440, rate, channels=2)

    (batch,) = heard(data_name="audiofolder", data_dir="clips").batches()

    (samples,) = batch.feeds["input_values"]
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    assert len(samples) == pytest.approx(RATE / 2, abs=1)
    assert spectrum.argmax() / len(samples) * RATE == pytest.approx(440, abs=2)
    assert np.abs(samples[1000:-1000]).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3"])
def test_other_kinds_of_sound_are_read(heard, play, name):
    play(f"clips/{name}", seconds=1)

    (batch,) = heard(data_name="audiofolder", data_dir="clips").batches()

    assert batch.feeds["input_values"].shape[1] == pytest.approx(RATE, abs=2_000)


def test_a_sound_is_cut_and_does_not_change_by_that(heard, play):
    play("clips/a.wav", rate=8_000, seconds=3)

    (whole,) = heard(data_name="audiofolder", data_dir="clips", folder="whole").batches()
    (cut,) = heard(data_name="audiofolder", data_dir="clips", folder="cut", max_duration=0.25).batches()

    assert whole.feeds["input_values"].shape == (1, 3 * RATE)
    assert cut.feeds["input_values"][0].tolist() == whole.feeds["input_values"][0, : RATE // 4].tolist()


def test_the_extractor_is_told_what_the_config_says(heard, play):
    play("clips/a.wav")
    play("clips/b.wav", seconds=0.25)
    settings = {"return_attention_mask": True, "padding_value": 9.0}

    params = {"data_name": "audiofolder", "data_dir": "clips", "batch_size": 2}
    (batch,) = heard(settings, **params, feature_extractor_args={"do_normalize": True}).batches()

    short = batch.feeds["input_values"][1]
    assert batch.feeds["attention_mask"].sum(axis=1).tolist() == [RATE // 2, RATE // 4]
    assert short[RATE // 4 :].tolist() == [9.0] * (RATE // 4)


def test_rows_with_some_labels_are_left_out(heard, play, tmp_path):
    for name in ("a", "b", "c"):
        play(f"clips/{name}.wav")
    (tmp_path / "rows.csv").write_text("file,label\na.wav,dog\nb.wav,_silence_\nc.wav,cat\n")
    params = {"data_name": "csv", "data_files": "rows.csv", "data_dir": "clips"}
    params |= {"input_cols": "file", "label_cols": "label"}

    data = heard(**params, labels_to_filter=["_Silence_"], max_samples=2)

    assert labels_of(data) == [1, 0]
    assert refusal(heard, tmp_path, **params, labels_to_filter=["noise"], folder="b")[0] == (
        "rows.csv: no row has the label 'noise', which labels_to_filter names"
    )
    assert refusal(heard, tmp_path, **params, folder="c")[0] == (
        "rows.csv: row 1: label '_silence_' is not one of the model's; they are cat, dog"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no sound", "row 0 (clips/a.wav) is no sound that libsndfile reads: "),
        (None, "row 0 has a sound of no length"),
    ],
)
def test_sounds_that_are_none_are_told(heard, play, tmp_path, content, said):
    play("clips/a.wav", seconds=0)
    if content:
        (tmp_path / "clips" / "a.wav").write_bytes(content)

    message, _ = refusal(heard, tmp_path, data_name="audiofolder", data_dir="clips")

    assert message.partition(": ")[2].startswith(said) or message.startswith(said)


def test_speech_is_for_models_that_write(prepare, model, play):
    play("clips/a.wav")
    folder, name = model("sound"), "Wav2Vec2ForSequenceClassification"
    (folder / "config.json").write_text(json.dumps({"architectures": [name]}))

    with pytest.raises(PreconditionFailed, match=f"the model is {name}: speech is prepared for models of CTC, such as"):
        prepare(task="ctc", model=folder, data_name="audiofolder", data_dir="clips", data_files=None, label_cols=None)
