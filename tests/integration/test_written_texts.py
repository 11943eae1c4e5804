"""Texts that encoders with decoders write, as docs/how-to/data.md has them: those that transformers writes alone."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

pytestmark = pytest.mark.timeout(600)  # whole runs

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "data.md"
PARAMS = {
    data["name"]: data["params_config"]
    for data in map(json.loads, re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL))
}
WORDS = ["film", "plot", "actor", "scene", "dull", "brightly", "slowly", "the", "of", "Anna", "Rome"]
VOCABULARY = {token: number for number, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *WORDS])}
LAYERS = {f"{side}_{what}": 2 for side in ("encoder", "decoder") for what in ("layers", "attention_heads")}
SIZES = {"vocab_size": len(VOCABULARY), "d_model": 32, **LAYERS, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
SPECIAL = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
RATE = 16_000


@pytest.fixture
def tokenizer(tmp_path):
    """Of single words, in the model's folder."""
    by_word = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    by_word.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    by_word.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=by_word, **special)
    made.save_pretrained(tmp_path / "model")
    return made


def changed(texts):
    """Every other text with a word more, and every empty one."""
    return [f"{text} film".lstrip() if number % 2 or not text else text for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("task", "params", "row"),
    [
        ("summarization", PARAMS["summaries"], lambda source, target: {"text": source, "summary": target}),
        (
            "translation",
            PARAMS["sentences"] | {"max_new_tokens": 6},
            lambda source, target: {"translation": {"en": source, "de": target}},
        ),
    ],
    ids=["summarization", "translation"],
)
def test_targets_are_compared_with_what_the_model_writes(tmp_path, thread, tokenizer, measured, task, params, row):
    torch.manual_seed(1)
    own = transformers.BartConfig(**SIZES, **SPECIAL, max_position_embeddings=64, init_std=0.5)
    model = transformers.BartForConditionalGeneration(own).eval()
    model.generation_config.forced_bos_token_id = 0
    model.save_pretrained(tmp_path / "model")
    draw = random.Random(0)
    sources = [" ".join(draw.choices(WORDS, k=draw.randint(3, 9))) for _ in range(12)]
    said = []
    for source in sources:
        text = params.get("source_prefix", "") + source
        with torch.inference_mode():
            ids = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=6, do_sample=False, num_beams=1)
        said.append(tokenizer.decode(ids[0], skip_special_tokens=True))
    right = changed(said)

    rows = map(row, sources, right)
    (thread.folder / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    wanted = [{"name": "exact_match"}, {"name": "wer"}]
    before, after = measured(tmp_path / "model", task, params, wanted)

    equal = np.mean([a == b for a, b in zip(right, said, strict=True)])
    assert before == after == {"exact_match": pytest.approx(equal), "wer": pytest.approx(jiwer.wer(right, said))}
    assert 0 < equal < 1
    assert len({*said}) > 3


def test_speech_is_written_by_a_decoder(tmp_path, thread, tokenizer, measured):
    import soundfile

    torch.manual_seed(1)
    places = {"max_source_positions": 50, "max_target_positions": 64, "num_mel_bins": 8}
    suppressed = {"suppress_tokens": [5, 6], "begin_suppress_tokens": [4]}
    own = transformers.WhisperConfig(**SIZES, **SPECIAL, **places, init_std=0.5)
    model = transformers.WhisperForConditionalGeneration(own).eval()
    model.generation_config = transformers.GenerationConfig(**SPECIAL, **suppressed)
    model.save_pretrained(tmp_path / "model")
    extractor = transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    extractor.save_pretrained(tmp_path / "model")
    (thread.folder / "clips").mkdir()
    draw, said = np.random.default_rng(0), []
    for number in range(8):
        time = np.arange(RATE) / RATE
        sound = sum(np.sin(2 * np.pi * pitch * time) for pitch in draw.uniform(100, 2000, 3)).astype(np.float32) / 6
        soundfile.write(thread.folder / "clips" / f"{number}.wav", sound, RATE, subtype="FLOAT")
        features = extractor(sound, sampling_rate=RATE, return_tensors="pt").input_features
        with torch.inference_mode():
            ids = transformers.GenerationMixin.generate(model, features, max_new_tokens=8, do_sample=False)
        said.append(tokenizer.decode(ids[0], skip_special_tokens=True))
    right = changed(said)

    lines = ["file,text", *(f"{number}.wav,{text}" for number, text in enumerate(right))]
    (thread.folder / "clips.csv").write_text("\n".join(lines) + "\n")
    before, after = measured(tmp_path / "model", "automatic-speech-recognition", PARAMS["talks"], [{"name": "wer"}])

    assert before == after == {"wer": pytest.approx(jiwer.wer(right, said))}
    assert before["wer"] > 0
    assert len({*said}) > 1
