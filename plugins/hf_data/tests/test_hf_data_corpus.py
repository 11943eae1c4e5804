"""Data for text generation: ways from texts to sequences, against a plain reference; labels, masks, padding."""

from __future__ import annotations

import json
import random
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hfopt import DataContext, PreconditionFailed
from hfopt.api.config import ConfigContext
from hfopt.testing import validate
from hfopt_data_containers.spellings import SpelledSection
from hfopt_hf_data.config import HuggingfaceContainerConfig
from hfopt_hf_data.container import HuggingfaceContainer

WORDS = [f"w{number}" for number in range(8)]
BOS, EOS, PAD = "<s>", "</s>", "<pad>"
VOCABULARY = {word: number for number, word in enumerate([*WORDS, BOS, EOS, PAD, "None", "|"])}
SPECIALS = {
    "none": {},
    "all": {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD},
    "bos": {"bos_token": BOS},
    "eos": {"eos_token": EOS},
    "eos pads": {"bos_token": BOS, "eos_token": EOS, "pad_token": EOS},
    "one for all": {"bos_token": EOS, "eos_token": EOS, "pad_token": EOS},
}
FOLDERS = count()


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[tuple[str, str], Path]:
    """Tokenizers that make a token of every word, by special tokens and side of padding."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    made = {}
    for specials, side in [(name, side) for name in SPECIALS for side in ("left", "right")]:
        words = Tokenizer(models.WordLevel(VOCABULARY, unk_token="None"))
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, padding_side=side, **SPECIALS[specials])
        made[specials, side] = tmp_path_factory.mktemp("tokenizer")
        tokenizer.save_pretrained(made[specials, side])
    return made


@pytest.fixture(scope="module")
def prepare(tmp_path_factory, models):
    """From rows and options to an open dataset."""
    place = tmp_path_factory.mktemp("corpus")

    def prepared(rows, specials="all", side="right", **params):
        folder = place / str(next(FOLDERS))
        folder.mkdir()
        lines = [json.dumps(row if isinstance(row, dict) else {"text": " ".join(row)}) for row in rows]
        (folder / "rows.jsonl").write_text("\n".join(lines) + "\n")
        written = {"data_name": "json", "data_files": str(folder / "rows.jsonl"), "split": "train", **params}
        defaults = {"model_name": str(models[specials, side]), "task": "text-generation"}
        filled = HuggingfaceContainer.read(SpelledSection(params_config=written), defaults).params
        problems = []
        config = validate(HuggingfaceContainerConfig, filled, (), problems, ConfigContext(folder))
        assert problems == []
        revived = HuggingfaceContainerConfig.model_validate_json(json.dumps(config.model_dump(mode="json")))
        (folder / "out").mkdir()
        HuggingfaceContainer(revived).prepare(DataContext(folder / "out", lambda *_: None))
        return HuggingfaceContainer(revived).open(folder / "out")

    return prepared


def tokens_of(words, specials, add=True):
    """A row's tokens by the book: what begins it, its words, what ends it."""
    known = SPECIALS[specials] if add else {}
    around = [known.get("bos_token"), *words, known.get("eos_token")]
    return [VOCABULARY[word] for word in around if word is not None]


def reference(rows, options, length):
    """The sequences that a config means, each with its labels, of a corpus that fits in memory."""
    strategy, most = options["corpus_strategy"], options.get("max_samples")
    short_is_out = options.get("drop_short_sequences", False)
    joined, begins = [], []
    for row in rows:
        begins.append(len(joined))
        joined += row + ([VOCABULARY["|"]] if options.get("joiner") else [])
    enough = length if short_is_out else 1
    if strategy == "line-by-line":
        found = [(row[:length],) * 2 for row in rows if len(row[:length]) >= enough]
    elif strategy == "join":
        found = [(joined[at : at + length],) * 2 for at in range(0, len(joined), length) if at + length <= len(joined)]
    elif strategy == "join-sliding-window":
        found, labelled = [], set()
        for at in range(0, len(joined) - length + 1, options["stride"]):
            places = range(at, at + length)
            found.append(([joined[p] for p in places], [-100 if p in labelled else joined[p] for p in places]))
            labelled |= {*places}
    else:
        by_row = strategy == "line-by-line-random"
        enough = enough if by_row else length
        draw, found = random.Random(options["random_seed"]), []
        for _ in range(most):
            for _ in range(options["random_retries"] + 1):
                row = draw.randrange(len(rows))
                ids = rows[row][:length] if by_row else joined[begins[row] :][:length]
                if len(ids) >= enough:
                    found.append((ids, ids))
                    break
    return found[:most]


@st.composite
def corpora(draw):
    rows = draw(st.lists(st.lists(st.sampled_from(WORDS), max_size=7), min_size=1, max_size=12))
    length = draw(st.integers(1, 9))
    strategy = draw(
        st.sampled_from(["line-by-line", "line-by-line-random", "join", "join-random", "join-sliding-window"])
    )
    drawn = strategy.endswith("random")
    options = {
        "corpus_strategy": strategy,
        "add_special_tokens": draw(st.booleans()),
        "max_samples": draw(st.integers(1, 6) if drawn else st.none() | st.integers(1, 6)),
        "processing_batch_size": draw(st.integers(1, 5)),
        "drop_short_sequences": draw(st.booleans()),
    }
    if drawn:
        options |= {"random_seed": draw(st.integers(0, 99)), "random_retries": draw(st.integers(0, 4))}
    if strategy.startswith("join"):
        options["joiner"] = draw(st.sampled_from([None, "|"]))
    if strategy == "join-sliding-window":
        options["stride"] = draw(st.integers(1, length))
    return rows, length, options


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(
    corpora(),
    st.sampled_from(sorted(SPECIALS)),
    st.sampled_from(["left", "right"]),
    st.booleans(),
    st.booleans(),
    st.integers(1, 3),
)
def test_every_strategy_loses_and_invents_nothing(prepare, corpus, specials, side, pad, masked, size):
    words, length, options = corpus
    pad = pad and not options["drop_short_sequences"]
    expected = reference([tokens_of(row, specials, options["add_special_tokens"]) for row in words], options, length)
    assume(any(words))  # a file of empty texts alone has its own message

    written = {**options, "source_max_len": length, "pad_to_max_len": pad, "use_attention_mask": masked}
    if not expected:
        with pytest.raises(PreconditionFailed, match=r"the texts (have no tokens|yield no sequence of \d+ tokens)"):
            prepare(words, specials, side, text_cols="text", **written)
        return
    data = prepare(words, specials, side, text_cols="text", **written)

    assert len(data) == len(expected)
    found = list(data.batches(size=size))
    assert np.concatenate([batch.rows for batch in found]).tolist() == list(range(len(expected)))
    for batch in found:
        rows = [expected[row] for row in batch.rows]
        width = length if pad else max(len(ids) for ids, _ in rows)
        assert batch.feeds.keys() == ({"input_ids", "attention_mask"} if masked else {"input_ids"})
        assert {array.shape for array in (*batch.feeds.values(), batch.labels)} == {(len(rows), width)}
        for row, (ids, labels) in enumerate(rows):
            own = slice(width - len(ids), None) if side == "left" else slice(len(ids))
            filler = np.ones(width, dtype=bool)
            filler[own] = False
            assert batch.feeds["input_ids"][row, own].tolist() == ids
            assert batch.labels[row, own].tolist() == labels
            assert (batch.labels[row, filler] == -100).all()
            if masked:
                assert batch.feeds["attention_mask"][row].tolist() == (~filler).astype(int).tolist()
            if "pad_token" in SPECIALS[specials]:
                assert (batch.feeds["input_ids"][row, filler] == VOCABULARY[SPECIALS[specials]["pad_token"]]).all()


def ids_of(data):
    return [batch.feeds["input_ids"][0].tolist() for batch in data.batches()]


def test_the_words_none_stand_for_no_token_that_is_missing(prepare):
    data = prepare([["w1", "w2"]], "none", text_cols="text", source_max_len=8, pad_to_max_len=False)

    assert ids_of(data) == [[1, 2]]


def test_the_last_block_of_joined_texts_counts_if_it_is_full(prepare):
    data = prepare([["w1"] * 5, ["w2"] * 7], "none", text_cols="text", corpus_strategy="join", source_max_len=4)

    assert ids_of(data) == [[1, 1, 1, 1], [1, 2, 2, 2], [2, 2, 2, 2]]


def test_every_token_is_labelled_once_by_windows_whatever_the_batches_are(prepare):
    words = [[WORDS[number % 8]] * 3 for number in range(20)]
    options = {"text_cols": "text", "corpus_strategy": "join-sliding-window", "source_max_len": 8, "stride": 3}

    whole, pieces = (prepare(words, "none", **options, processing_batch_size=size) for size in (1024, 2))

    assert ids_of(whole) == ids_of(pieces)
    labels = np.concatenate([batch.labels[0] for batch in pieces.batches()])
    joined = [VOCABULARY[word] for row in words for word in row]
    assert labels[labels != -100].tolist() == joined[: 8 + 3 * ((60 - 8) // 3)]
    assert (next(pieces.batches()).labels != -100).all()


def test_a_real_end_counts_where_its_token_pads_too(prepare):
    data = prepare([["w1"]], "eos pads", text_cols="text", source_max_len=6)

    (batch,) = data.batches()

    end = VOCABULARY[EOS]
    assert batch.feeds["input_ids"].tolist() == [[VOCABULARY[BOS], 1, end, end, end, end]]
    assert batch.feeds["attention_mask"].tolist() == [[1, 1, 1, 0, 0, 0]]
    assert batch.labels.tolist() == [[VOCABULARY[BOS], 1, end, -100, -100, -100]]


def test_texts_that_are_too_short_are_not_kept_for_want_of_others(prepare):
    options = {"text_cols": "text", "corpus_strategy": "line-by-line-random", "max_samples": 20, "random_seed": 3}
    words = [["w1"], ["w2"] * 4]

    data = prepare(words, "none", **options, source_max_len=4, drop_short_sequences=True, random_retries=1)

    assert {tuple(ids) for ids in ids_of(data)} == {(2, 2, 2, 2)}
    assert 1 <= len(data) < 20


@pytest.mark.parametrize("strategy", ["line-by-line-random", "join-random"])
def test_the_same_seed_draws_the_same_and_another_does_not(prepare, strategy):
    words = [[WORDS[row % 8]] * 4 for row in range(30)]
    options = {"text_cols": "text", "corpus_strategy": strategy, "max_samples": 10, "source_max_len": 4}

    first, again, other = (ids_of(prepare(words, "none", **options, random_seed=seed)) for seed in (1, 1, 2))

    assert first == again != other


def test_texts_come_from_columns_a_template_or_a_function(prepare, tmp_path):
    (tmp_path / "helper").mkdir()
    (tmp_path / "helper" / "ending.py").write_text("LAST = 'w7'\n")
    script = tmp_path / "own.py"
    script.write_text("from ending import LAST\n\ndef worded(row):\n    return row['b'] + ' ' + LAST\n")
    rows = [{"a": "w1", "b": "w2"}, {"a": "w3", "b": "w4 w5"}]
    options = {"source_max_len": 8, "pad_to_max_len": False}
    own = {"text_formatting_func": "worded", "user_script": str(script), "script_dir": str(tmp_path / "helper")}

    assert ids_of(prepare(rows, "none", text_cols=["a", "b"], **options)) == [[1, 2], [3, 4, 5]]
    assert ids_of(prepare(rows, "none", text_template="{b} | {a}", **options)) == [[2, 12, 1], [4, 5, 12, 3]]
    assert ids_of(prepare(rows, "none", text_cols="a", text_template="{b}", **own, **options)) == [[2, 7], [4, 5, 7]]


def test_newer_names_and_places_of_options_mean_the_same(prepare):
    words = [["w1"] * 5, ["w2"] * 7]
    options = {"text_cols": ["text"], "strategy": "join", "max_seq_len": 4}

    assert ids_of(prepare(words, "none", component_kwargs={"pre_process_data": options})) == [
        [1, 1, 1, 1],
        [1, 2, 2, 2],
        [2, 2, 2, 2],
    ]


PAIRS = {
    "default": ({"input": "w1 w2", "output": "w3"}, ["w1", "w2"], ["w3"]),
    "self_instruct": ({"prompt": "w1", "completion": "w3 w4"}, ["w1"], ["w3", "w4"]),
    "chip2": ({"text": "<human>: w1 w2\n<bot>: w3 w4"}, ["w1", "w2"], ["w3", "w4"]),
}


@pytest.mark.parametrize("pair_format", PAIRS)
@pytest.mark.parametrize("ignored", [True, False])
def test_answers_follow_their_prompts_which_are_context_unless_they_are_to_count(prepare, pair_format, ignored):
    row, prompt, answer = PAIRS[pair_format]
    options = {"dataset_type": "pair", "pair_format": pair_format, "source_max_len": 4, "target_max_len": 4}

    (batch,) = prepare([row], **options, ignore_source_in_labels=ignored).batches()

    source = [VOCABULARY[word] for word in (BOS, *prompt)]
    target = [VOCABULARY[word] for word in (*answer, EOS)]
    rest = 8 - len(source) - len(target)
    assert batch.feeds["input_ids"].tolist() == [[*source, *target, *[VOCABULARY[PAD]] * rest]]
    assert batch.labels.tolist() == [[*([-100] * len(source) if ignored else source), *target, *[-100] * rest]]


def test_custom_pairs_are_cut_each_to_its_own_length(prepare):
    rows = [{"q": "w1 w1 w1", "x": "w5", "a": "w2 w2 w2"}]
    custom = {"pair_format": "custom", "input_template": "{x} {q}", "output_col": "a", "add_special_tokens": False}

    (batch,) = prepare(rows, dataset_type="pair", **custom, source_max_len=3, target_max_len=2).batches()

    assert batch.feeds["input_ids"].tolist() == [[5, 1, 1, 2, 2]]
    assert batch.labels.tolist() == [[-100, -100, -100, 2, 2]]


@pytest.mark.parametrize("more", ["", "the context"])
def test_an_instruction_is_put_as_alpaca_does(more):
    from hfopt_hf_data.wording import pair

    prompt, answer = pair(HuggingfaceContainerConfig.model_construct(pair_format="alpaca"))
    batch = {"instruction": ["add"], "input": [more], "output": ["done"]}

    text = prompt.texts(batch, 0)[0]

    assert text.startswith("Below is an instruction that describes a task")
    assert text.endswith(
        "### Instruction:\nadd\n\n" + ("### Input:\nthe context\n\n" if more else "") + "### Response: "
    )
    assert ("further context" in text) == bool(more)
    assert answer.texts({"output": ["done"]}, 0) == ["done"]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"text_cols": "texts"}, "the data have no column 'texts'; they have text"),
        ({"text_template": "{texts}"}, "the data have no column 'texts'; they have text"),
        (
            {"text_cols": "text", "source_max_len": 99, "corpus_strategy": "join"},
            "the texts yield no sequence of 99",
        ),
        (
            {"dataset_type": "pair", "pair_format": "chip2", "target_max_len": 4},
            "row 0 has no line that begins with",
        ),
    ],
)
def test_what_data_lack_is_said(prepare, params, message):
    with pytest.raises(PreconditionFailed, match=message):
        prepare([["w1", "w2"]], **{"source_max_len": 4, **params})


def test_more_tokens_than_the_model_has_positions_are_refused(prepare, models):
    folder = models["bos", "left"]
    (folder / "config.json").write_text('{"n_positions": 16}')

    with pytest.raises(PreconditionFailed, match="source_max_len is 17, and the model takes at most 16 tokens"):
        prepare([["w1", "w2"]], "bos", "left", text_cols="text", source_max_len=17)

    (folder / "config.json").unlink()


def test_steps_between_windows_are_as_long_as_the_stride(prepare):
    words = [[WORDS[number % 8] for number in range(40)]]
    options = {"text_cols": "text", "corpus_strategy": "join-sliding-window", "source_max_len": 6, "stride": 2}

    windows = ids_of(prepare(words, "none", **options))

    assert all(after[:4] == before[2:] for before, after in pairwise(windows))
