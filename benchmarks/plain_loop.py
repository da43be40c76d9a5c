"""The plain loop: federated averaging as a person without any framework would write it.

It imports nothing of this project and no federated framework. What it shares with the engine, so that both take the
very same gradient steps, are numbers: the task's settings, the first weights, and the seeds that say who trains in a
round, in which order a person's entries come, and what dropout drops. Everybody's entries are tokenised once.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel

from model.hub import read_tensors
from model.lexical import Lexical
from model.tokenizer import load_tokenizer

PAD = 1

Entry = tuple[Tensor, int]
"""Token ids (S,) and the emotion's id."""


def training(task_folder: Path, out: Path) -> dict[str, Any]:
    """Federated averaging (McMahan et al. 2017), a score after each round, and the last weights in ``weights.safetensors``."""
    task = read_task(task_folder)
    people, test = read_people(task_folder, task), read_test(task_folder, task)
    network = Network(task)
    weights = load_file(task_folder / "start.safetensors")
    ends: list[float] = []
    for round in range(1, task["rounds"] + 1):
        chosen = random.Random(f"{task['seed']}:{2 * round}").sample(range(len(people)), task["clients_a_round"])
        change = {name: torch.zeros_like(value) for name, value in weights.items()}
        for person in chosen:
            network.load_state_dict(weights)
            train(network, people[person], task, seed=task["seeds"][round - 1][person])
            for name, trained in network.state_dict().items():
                change[name] += (trained - weights[name]) * len(people[person])
        entries = sum(len(people[person]) for person in chosen)
        weights = {name: value + change[name] / entries for name, value in weights.items()}
        network.load_state_dict(weights)
        accuracy, cross_entropy = score(network, test)
        ends.append(time.perf_counter())
    save_file(weights, out / "weights.safetensors")
    return {"round_ends": ends, "accuracy": accuracy, "cross_entropy": cross_entropy}


def train(network: Network, entries: list[Entry], task: dict[str, Any], *, seed: int) -> None:
    """One person's local epoch: AdamW, learning rate rising over the first steps, gradient norm clipped, dropout on."""
    generator = torch.Generator().manual_seed(seed)
    size = task["batch_size"]
    order = torch.randperm(len(entries), generator=generator).tolist()
    order.sort(key=lambda row: len(entries[row][0]))  # 64 entries are one window: like lengths share a batch
    cut = [order[start : start + size] for start in range(0, len(order), size)]
    batches = [cut[number] for number in torch.randperm(len(cut), generator=generator).tolist()]
    torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))  # of dropout
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=task["learning_rate"], weight_decay=task["weight_decay"], fused=True)
    rising = max(1, round(task["warmup"] * len(batches)))
    for step, rows in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = task["learning_rate"] * min(1.0, (step + 1) / rising)
        ids, mask, labels = batch([entries[row] for row in rows])
        optimizer.zero_grad()
        functional.cross_entropy(network(ids, mask), labels).backward()
        nn.utils.clip_grad_norm_(network.parameters(), task["gradient_clip"])
        optimizer.step()


@torch.no_grad()
def score(network: Network, entries: list[Entry], *, batch_size: int = 64) -> tuple[float, float]:
    """Accuracy and mean cross-entropy, shorter entries first so that little is spent on padding."""
    network.eval()
    entries = sorted(entries, key=lambda entry: len(entry[0]))
    right, loss = 0, 0.0
    for start in range(0, len(entries), batch_size):
        ids, mask, labels = batch(entries[start : start + batch_size])
        logits = network(ids, mask)
        right += int((logits.argmax(dim=1) == labels).sum())
        loss += float(functional.cross_entropy(logits, labels, reduction="sum"))
    return right / len(entries), loss / len(entries)


class Network(nn.Module):
    """BERT, the mean over real tokens, and a head: dense, tanh, dropout, linear; plus a linear reading of the words' features."""

    def __init__(self, task: dict[str, Any]) -> None:
        super().__init__()
        config = BertConfig.from_json_file(f"{task['body']}/config.json")
        self.bert = BertModel(config, add_pooling_layer=False)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(task["dropout"])
        self.classifier = nn.Linear(config.hidden_size, 4)
        lexical = Lexical(load_tokenizer(Path(task["body"]), pad_id=PAD), config.lexical_buckets, config.lexical_features)
        stored = read_tensors(Path(task["body"]) / "model.safetensors")
        lexical.load_state_dict({name: stored[f"lexical.{name}"] for name in lexical.state_dict()})
        self.frozen = [lexical]  # in a list: it is neither trained nor sent
        self.words = nn.Linear(config.lexical_features, 4, bias=False)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Token ids and mask (B, S) to logits (B, 4)."""
        states = self.bert(ids, attention_mask=mask).last_hidden_state
        mean = (states * mask[:, :, None]).sum(dim=1) / mask.sum(dim=1)[:, None]
        return self.classifier(self.dropout(torch.tanh(self.pooler(mean)))) + self.words(self.frozen[0](ids, mask))


def batch(entries: list[Entry]) -> tuple[Tensor, Tensor, Tensor]:
    """Padded token ids (B, S), their mask and the labels (B,)."""
    ids = nn.utils.rnn.pad_sequence([ids for ids, _ in entries], batch_first=True, padding_value=PAD)
    lengths = torch.tensor([len(ids) for ids, _ in entries])
    return ids, (torch.arange(ids.shape[1]) < lengths[:, None]).long(), torch.tensor([label for _, label in entries])


def read_task(folder: Path) -> dict[str, Any]:
    """The task's numbers, and one thread."""
    torch.set_num_threads(1)
    task: dict[str, Any] = json.loads((folder / "task.json").read_text())
    return task


def read_people(folder: Path, task: dict[str, Any]) -> list[list[Entry]]:
    """Everybody's training entries."""
    tokenizer = _tokenizer(task)
    return [_tokenised(person, tokenizer) for person in json.loads((folder / "people.json").read_text())]


def read_test(folder: Path, task: dict[str, Any]) -> list[Entry]:
    """What the server scores on."""
    return _tokenised(json.loads((folder / "test.json").read_text()), _tokenizer(task))


def _tokenizer(task: dict[str, Any]) -> Tokenizer:
    tokenizer = Tokenizer.from_file(f"{task['body']}/tokenizer.json")
    tokenizer.enable_truncation(task["max_tokens"])
    return tokenizer


def _tokenised(rows: list[tuple[str, int]], tokenizer: Tokenizer) -> list[Entry]:
    encodings = tokenizer.encode_batch([text for text, _ in rows])
    return [(torch.tensor(encoding.ids), label) for encoding, (_, label) in zip(encodings, rows, strict=True)]
