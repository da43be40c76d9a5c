"""The servers that ``serving.py`` asks, each in a process of its own, and the models that they read with.

    python serving_server.py <plain|torch|onnx> <folder> <port>

All read the same weights from ``folder``: *plain* a BertForSequenceClassification in transformers' own layout, *torch* and
*onnx*, which are engines of ours, the same body and a checkpoint of its head in a Home.
"""

from __future__ import annotations

import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import uvicorn
from fastapi import Body, FastAPI
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, pipeline

from client.api.api import create_app
from client.api.serve import Address, configured
from client.home import DevicePolicy, Home
from client.music.playlist import bundled_songs
from client.reading.reader import EmotionReader
from model.emotions import EMOTIONS
from model.hub import find_model
from model.normalization import normalized
from model.settings import RunSettings
from model.tuning import tuned_classifier
from model.weights import Weights

TOKEN = "benchmark"  # noqa: S105 - of a server that lives for a minute on loopback
MAX_TOKENS = 128
SPECIAL = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"}

BODIES: dict[str, dict[str, int]] = {
    "compact": {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024},
    "kobert": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
}
"""Sizes of the two bodies; both have the compact model's tokenizer of 8,000 pieces, so that the same texts are as long."""


def write_model(body: str, folder: Path) -> None:
    """Random weights in transformers' layout, and a Home with a checkpoint that holds the same head."""
    torch.manual_seed(0)
    labels = {emotion.id: emotion.en for emotion in EMOTIONS}
    config = BertConfig(vocab_size=8000, max_position_embeddings=512, pad_token_id=1, id2label=labels, num_labels=4, **BODIES[body])
    bert = BertForSequenceClassification(config).eval()
    model = folder / "model"
    bert.save_pretrained(model)
    shutil.copy(find_model("compact") / "tokenizer.json", model)
    publish(folder, Home.create(folder / "home", DevicePolicy()), head_of(folder))


def head_of(folder: Path) -> Weights:
    """The head in ``model``, under the names that our classifier gives it."""
    model = folder / "model"
    bert = BertForSequenceClassification.from_pretrained(model)
    own = tuned_classifier(_settings(folder)).read()
    ours = {(4, bert.config.hidden_size): bert.classifier.weight, (4,): bert.classifier.bias}
    return Weights({name: ours[array.shape].detach().numpy() if array.shape in ours else array for name, array in own.items()})


def publish(folder: Path, home: Home, weights: Weights) -> int:
    """Publish a checkpoint for the body in ``model``, as a round's end does, and give its version."""
    classifier = tuned_classifier(_settings(folder))
    digests = {"base_digest": classifier.base_digest, "tokenizer_digest": classifier.tokenizer.digest}
    return home.checkpoints.publish(weights, model=str(folder / "model"), tuning="head", round=1, **digests).version


def probabilities_apart(folder: Path, texts: list[str]) -> float:
    """The greatest difference between what the two models give for texts that have passed the text step."""
    texts, classify = [normalized(text) for text in texts], _pipeline(folder)
    plain = [[{one["label"]: one["score"] for one in answer}[emotion.en] for emotion in EMOTIONS] for answer in classify(texts)]
    reader = EmotionReader(Home(folder / "home"))
    ours = [reading.probabilities for reading in reader.read(texts)]
    reader.close()
    return float(np.abs(np.array(plain) - np.array(ours)).max())


def plain(folder: Path) -> FastAPI:
    """The transformers pipeline behind FastAPI, as its documentation has it: one route, one call."""
    app, classify = FastAPI(), _pipeline(folder)

    @app.post("/v1/predict")
    def predict(text: str = Body(embed=True)) -> Any:
        return {"answer": classify(text)}

    return app


def ours(folder: Path, engine: str) -> FastAPI:
    """The product's API with all that guards it."""
    home = Home(folder / "home")
    return create_app(home, reader=EmotionReader(home, engine=engine), songs=bundled_songs(), token=TOKEN)


def _settings(folder: Path) -> RunSettings:
    return RunSettings(model=str(folder / "model"), tuning="head", privacy="none", max_tokens=MAX_TOKENS)


def _pipeline(folder: Path) -> Any:
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "model" / "tokenizer.json"), **SPECIAL)
    model = BertForSequenceClassification.from_pretrained(folder / "model").eval()
    return pipeline("text-classification", model=model, tokenizer=tokenizer, top_k=None, truncation=True, max_length=MAX_TOKENS)


if __name__ == "__main__":
    who, where, port = sys.argv[1:]
    if who == "plain":
        uvicorn.run(plain(Path(where)), host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
    else:
        app = ours(Path(where), who)
        with socket.create_server(("127.0.0.1", int(port))) as listener:
            uvicorn.Server(configured(app, Address(port=int(port)))).run(sockets=[listener])
