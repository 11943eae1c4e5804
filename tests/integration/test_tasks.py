"""What docs/how-to/data.md shows, from a config to figures that transformers, seqeval and scikit-learn find too."""

from __future__ import annotations

import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics import f1_score as entity_f1
from sklearn.metrics import accuracy_score, mean_squared_error
from sklearn.metrics.pairwise import cosine_similarity

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "data.md"
PARAMS = {
    data["name"]: data["params_config"]
    for data in map(json.loads, re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL))
}
PIECES = ["film", "plot", "act", "##or", "scene", "dull", "bright", "slow", "##ly", "the", "of", "Ann", "##a", "Rome"]
WORDS = ["film", "plot", "actor", "scene", "dull", "brightly", "slowly", "the", "of", "Anna", "Rome"]
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 32,
    "initializer_range": 0.5,
}


@pytest.fixture
def bert(tmp_path):
    """Makes a small random BERT with a head, its tokenizer beside it."""

    def made(head, **config):
        folder = tmp_path / "model"
        folder.mkdir()
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES]
        (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
        tokenizer = transformers.BertTokenizerFast(str(folder / "vocab.txt"), do_lower_case=False)
        tokenizer.save_pretrained(folder)
        torch.manual_seed(0)
        model = head(transformers.BertConfig(vocab_size=len(vocabulary), **SMALL, **config)).eval()
        model.save_pretrained(folder)
        return folder, model, tokenizer

    return made


@pytest.fixture
def write(thread):
    """Writes rows as JSON lines into the project."""

    def written(rows):
        (thread.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return written


def words(seed, rows=24, most=12):
    choose = random.Random(seed)
    return [choose.choices(WORDS, k=choose.randint(3, most)) for _ in range(rows)]


def outputs_of(model, tokenizer, *texts, **options):
    with torch.inference_mode():
        return model(**tokenizer(*texts, return_tensors="pt", **options))


TAGS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]


def test_words_are_tagged_by_their_first_token(bert, write, measured):
    folder, model, tokenizer = bert(
        transformers.BertForTokenClassification,
        id2label=dict(enumerate(TAGS)),
        label2id={t: n for n, t in enumerate(TAGS)},
    )
    rows, said, draw = words(1, most=28), [], random.Random(0)
    for row in rows:
        encoding = tokenizer(row, is_split_into_words=True, truncation=True, max_length=32)
        logits = model(**encoding.convert_to_tensors("pt", prepend_batch_axis=True)).logits[0]
        of_words = encoding.word_ids()
        firsts = [of_words.index(word) for word in range(len(row)) if word in of_words]
        said.append([TAGS[logits[place].argmax()] for place in firsts])
    right = [[tag if draw.random() < 0.7 else draw.choice(TAGS) for tag in row] for row in said]
    unseen = [tags + ["O"] * (len(row) - len(tags)) for tags, row in zip(right, rows, strict=True)]
    assert unseen != right  # some rows are longer than the model takes

    write({"tokens": row, "tags": tags} for row, tags in zip(rows, unseen, strict=True))
    before, after = measured(folder, "ner", PARAMS["entities"], [{"name": "seqeval"}])

    assert before == after == {"seqeval": pytest.approx(entity_f1(right, said))}


def test_one_token_of_a_text_is_masked_and_found(bert, write, measured):
    folder, model, tokenizer = bert(transformers.BertForMaskedLM)
    rows = [" ".join(row) for row in words(2)]
    draw, right, said = random.Random(7), [], []
    for text in rows:
        ids = tokenizer(text)["input_ids"]
        place = draw.choice(range(1, len(ids) - 1))
        right.append(ids[place])
        ids[place] = tokenizer.mask_token_id
        said.append(model(torch.tensor([ids])).logits[0, place].argmax().item())

    write({"text": text} for text in rows)
    before, after = measured(folder, "fill-mask", PARAMS["masked"], [{"name": "accuracy"}])

    assert before == after == {"accuracy": accuracy_score(right, said)}


def test_targets_are_predicted_token_by_token(tmp_path, write, measured):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    vocabulary = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
    by_word = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    by_word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    by_word.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=by_word, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.save_pretrained(tmp_path / "model")
    layers = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
    widths = {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64}
    torch.manual_seed(0)
    own = transformers.BartConfig(vocab_size=len(vocabulary), d_model=32, **layers, **widths, init_std=0.5)
    model = transformers.BartForConditionalGeneration(own).eval()
    model.save_pretrained(tmp_path / "model")
    sources, targets = ([" ".join(row) for row in words(seed)] for seed in (4, 5))
    total = count = 0
    for source, target in zip(sources, targets, strict=True):
        labels = tokenizer(text_target=target, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            loss = model(**tokenizer(f"film {source}", return_tensors="pt"), labels=labels).loss
        total, count = total + loss.item() * labels.numel(), count + labels.numel()

    write({"translation": {"en": s, "de": t}} for s, t in zip(sources, targets, strict=True))
    before, after = measured(tmp_path / "model", "translation", PARAMS["sentences"], [{"name": "perplexity"}])

    assert before == {"perplexity": pytest.approx(math.exp(total / count), rel=1e-5)}
    assert after == pytest.approx(before, rel=1e-4)


def mean_of(model, tokenizer, text):
    return outputs_of(model, tokenizer, text).last_hidden_state[0].mean(dim=0).numpy()


def test_a_text_is_the_mean_of_its_tokens(bert, write, measured):
    folder, model, tokenizer = bert(transformers.BertModel)
    rows = [" ".join(row) for row in words(6)]
    vectors = np.stack([mean_of(model, tokenizer, text) for text in rows])
    wanted = vectors + np.random.default_rng(0).normal(0, 0.1, vectors.shape)

    write({"text": text, "vector": vector.tolist()} for text, vector in zip(rows, wanted, strict=True))
    before, after = measured(folder, "feature-extraction", PARAMS["vectors"], [{"name": "mse"}])

    assert before == {"mse": pytest.approx(mean_squared_error(wanted, vectors), rel=1e-5)}
    assert after == pytest.approx(before, rel=1e-4)


def test_two_texts_are_as_alike_as_the_cosine_of_their_vectors(bert, write, measured):
    folder, model, tokenizer = bert(transformers.BertModel)
    pairs = [[" ".join(row) for row in words(seed)] for seed in (8, 9)]
    first, second = (np.stack([mean_of(model, tokenizer, text) for text in texts]) for texts in pairs)
    cosines = cosine_similarity(first, second).diagonal()
    scores = cosines + np.random.default_rng(0).normal(0, cosines.std(), len(cosines))

    rows = zip(*pairs, scores.tolist(), strict=True)
    write({"one": one, "two": two, "score": score} for one, two, score in rows)
    wanted = [{"name": "pearsonr"}, {"name": "spearmanr"}]
    before, after = measured(folder, "sentence-similarity", PARAMS["pairs"], wanted)

    assert before["pearsonr"] == pytest.approx(pearsonr(cosines, scores)[0], abs=1e-6)
    assert before["spearmanr"] == pytest.approx(spearmanr(cosines, scores)[0])
    assert after == pytest.approx(before, abs=1e-4)


def answered(model, tokenizer, question, context):
    """The best span of all windows, found by trying all of them."""
    windows = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=32,
        stride=8,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    best = (-math.inf, "")
    for window, offsets in enumerate(windows["offset_mapping"]):
        feeds = {name: torch.tensor([windows[name][window]]) for name in tokenizer.model_input_names}
        with torch.inference_mode():
            said = model(**feeds)
        inside = [place for place, part in enumerate(windows.sequence_ids(window)) if part == 1]
        for start in inside:
            for end in [place for place in inside if start <= place < start + 5]:
                score = (said.start_logits[0, start].double() + said.end_logits[0, end].double()).item()
                best = max(best, (score, context[offsets[start][0] : offsets[end][1]]))
    return best[1], len(windows["input_ids"])


def test_answers_are_the_best_spans_of_all_windows(bert, write, measured):
    folder, model, tokenizer = bert(transformers.BertForQuestionAnswering)
    questions, contexts = ([" ".join(row) for row in words(*each)] for each in ((10, 24, 5), (11, 24, 40)))
    said, windows = zip(
        *(answered(model, tokenizer, *each) for each in zip(questions, contexts, strict=True)), strict=True
    )
    assert {1, 2, 3} <= {*windows}
    answers = [[text, "Rome"] if row % 2 else [text.split()[0]] for row, text in enumerate(said)]

    rows = zip(questions, contexts, answers, strict=True)
    write({"question": q, "context": c, "answers": {"text": a, "answer_start": [0] * len(a)}} for q, c, a in rows)
    exact = {"name": "squad", "metric_config": {"result_key": "exact_match"}}
    before, after = measured(folder, "question-answering", PARAMS["questions"], [exact, {"name": "exact_match"}])

    right = [text in wanted for text, wanted in zip(said, answers, strict=True)]
    assert 0 < sum(right) < len(right)
    assert before == after
    assert before["exact_match"] == sum(right) / len(right)


def test_images_of_a_folder_have_the_class_of_the_folder_they_are_in(tmp_path, thread, measured):
    from PIL import Image

    names = ["cat", "dog", "owl"]
    own = transformers.ViTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        initializer_range=0.5,
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    torch.manual_seed(0)
    model = transformers.ViTForImageClassification(own).eval()
    model.save_pretrained(tmp_path / "model")
    processor = transformers.ViTImageProcessorPil(size={"height": 32, "width": 32})
    processor.save_pretrained(tmp_path / "model")
    draw, said, right = np.random.default_rng(0), [], []
    for number in range(18):
        pixels = draw.integers(0, 255, (draw.integers(20, 60), draw.integers(20, 60), 3), dtype=np.uint8)
        folder = thread.folder / "photos" / "test" / ["owl", "cat", "dog"][number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        with torch.inference_mode():
            logits = model(**processor(images=Image.fromarray(pixels), return_tensors="pt")).logits[0]
        said.append(logits.argmax().item())
        right.append(names.index(folder.name))

    before, after = measured(tmp_path / "model", "image-classification", PARAMS["photos"], [{"name": "accuracy"}])

    assert before == after == {"accuracy": accuracy_score(right, said)}
    assert len({*said}) > 1


LISTENING = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "conv_dim": (16, 16),
    "conv_kernel": (10, 8),
    "conv_stride": (8, 8),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
    "initializer_range": 0.5,
}


@pytest.fixture
def sounds(thread):
    """Writes wav files of chords at some rate into the project, and returns them at 16 kHz."""
    import soundfile
    from scipy.signal import resample_poly

    def written(rate):
        draw, heard = np.random.default_rng(0), []
        (thread.folder / "clips").mkdir()
        for number in range(12):
            time = np.arange(int(rate * draw.uniform(0.1, 0.3))) / rate
            chord = sum(np.sin(2 * np.pi * pitch * time) for pitch in draw.uniform(100, 2000, 3)) / 6
            soundfile.write(thread.folder / "clips" / f"{number}.wav", chord, rate, subtype="FLOAT")
            heard.append(resample_poly(chord.astype(np.float32), 16_000 // rate, 1))
        return heard

    return written


def listener(head, folder, **config):
    torch.manual_seed(0)
    model = head(transformers.Wav2Vec2Config(**LISTENING, **config)).eval()
    model.save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(sampling_rate=16_000, do_normalize=True)
    extractor.save_pretrained(folder)

    def logits(sound):
        with torch.inference_mode():
            return model(**extractor(sound, sampling_rate=16_000, return_tensors="pt")).logits[0]

    return logits


def table(thread, header, rows):
    lines = [f"file,{header}", *(f"{number}.wav,{row}" for number, row in enumerate(rows))]
    (thread.folder / "clips.csv").write_text("\n".join(lines) + "\n")


def test_sounds_are_heard_at_the_rate_of_the_model(tmp_path, thread, sounds, measured):
    logits = listener(transformers.Wav2Vec2ForSequenceClassification, tmp_path / "model", num_labels=3)
    said = [logits(sound).argmax().item() for sound in sounds(8_000)]
    right = [(each + (number % 4 == 0)) % 3 for number, each in enumerate(said)]

    table(thread, "label", right)
    before, after = measured(tmp_path / "model", "audio-classification", PARAMS["clips"], [{"name": "accuracy"}])

    assert before == after == {"accuracy": accuracy_score(right, said)}
    assert len({*said}) > 1


def test_speech_is_transcribed(tmp_path, thread, sounds, measured):
    import jiwer

    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONI"]
    (tmp_path / "vocab.json").write_text(json.dumps({letter: number for number, letter in enumerate(letters)}))
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(tmp_path / "vocab.json"))
    logits = listener(transformers.Wav2Vec2ForCTC, tmp_path / "model", vocab_size=len(letters))
    tokenizer.save_pretrained(tmp_path / "model")
    said = [tokenizer.decode(logits(sound).argmax(dim=-1)) for sound in sounds(16_000)]
    right = [f"{text} NOTE" if number % 2 else text for number, text in enumerate(said)]

    table(thread, "text", right)
    before, after = measured(tmp_path / "model", "automatic-speech-recognition", PARAMS["speech"], [{"name": "wer"}])

    assert before == after == {"wer": pytest.approx(jiwer.wer(right, said))}
    assert before["wer"] > 0
