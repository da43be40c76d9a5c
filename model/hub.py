"""Where a model's folder comes from: a path, this device's Home, a bundle, or the hub; and how its weights are read.

A folder holds ``config.json``, the weights (``model.safetensors`` or ``pytorch_model.bin``) and the tokenizer
(``spiece.model``, ``tokenizer.json`` or ``vocab.txt``). Nothing read from it can run code: a pickle is opened with
``weights_only``, which refuses everything but tensors, and a Home keeps safetensors only.
"""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from safetensors.torch import save as save_tensors
from torch import Tensor

from model.checkpoint import locked, write_durably
from model.quantized_tensors import dequantize_tensors
from model.refusal import Refusal

SAFETENSORS, PICKLE = "model.safetensors", "pytorch_model.bin"
TOKENIZERS = ("spiece.model", "tokenizer.json", "vocab.txt")
BESIDE_THE_WEIGHTS = ("config.json", *TOKENIZERS, "tokenizer_config.json", "special_tokens_map.json")
LONGEST_NAME = 200
"""Characters of a model's name, as a file system takes it."""
WAY_OUT = "or use --model compact, which needs no download"


def find_model(source: str, models: Path | None = None) -> Path:
    """The folder of a model: a path, one installed under ``models``, a bundled one, or the hub's download.

    ``models`` is where a Home keeps its models. With it a folder whose only weights are a ``pytorch_model.bin`` is
    converted to safetensors there, once; without it such a file is read as it is, every time.
    Raises :class:`Refusal` that names the missing files, where to put them, and the model that needs none.
    """
    folder = _find(source, models)
    if models is None or (folder / SAFETENSORS).is_file() or not (folder / PICKLE).is_file():
        return folder
    return _converted(folder, _place(source, models))


def installed_model(source: str, models: Path | None) -> Path:
    """The folder of a model that this device holds: under ``models``, a Home's own, or bundled with the program.

    For a name that came with an order. No other folder of this machine is looked at and no network is used, so a server neither reads
    what is not meant for it nor is told, by the hub's own records, who asked. ``models`` None is a virtual person's, who
    holds all that this machine holds. :class:`Refusal` says where to put the files.
    """
    if models is None:
        return find_model(source)
    name = source.replace("/", "--")
    if not name.isprintable() or name in ("", ".", "..") or "\\" in name or len(name) > LONGEST_NAME:
        raise Refusal(f"'{name[:40]!r}' names no model; an order must name one that is installed on this device")
    places = [models / name, *(bundle / source for bundle in bundles() if "/" not in source)]
    folder = next((place for place in places if not missing_files(place)), None)
    if folder is None:
        raise Refusal(
            f"the model '{name}' is not installed on this device, and no order can have it fetched; put its files into '{models / name}'"
        )
    return folder if (folder / SAFETENSORS).is_file() or folder != models / name else _converted(folder, folder)


def bundles() -> list[Path]:
    """Where bundled models and checkpoints may lie: ``HEALING_MODELS``, then this program's own folder.

    Flower sends a node the program without its weights (no safetensors in a bundle), so there the variable, or a Home
    that holds the models, must name them.
    """
    own = resources.files("model") / "assets"
    named = os.environ.get("HEALING_MODELS")
    return [*([Path(named)] if named else []), *([own] if isinstance(own, Path) else [])]


def find_checkpoints(name: str) -> Path:
    """The folder of checkpoints of this name: a path, or one that is bundled (``emotion-v2``)."""
    folders = [Path(name), *(bundle / name for bundle in bundles() if "/" not in name)]
    return next((folder for folder in folders if (folder / "latest").is_file()), folders[0])


def missing_files(folder: Path) -> list[str]:
    """What a model's folder lacks, in words."""
    wanted = (("config.json",), (SAFETENSORS, PICKLE), TOKENIZERS)
    return [_one_of(names) for names in wanted if not any((folder / name).is_file() for name in names)]


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a safetensors file or of a pickle that holds nothing else."""
    try:
        if path.suffix == ".safetensors":
            return dequantize_tensors(load_file(str(path)))
        loaded: object = torch.load(path, map_location="cpu", weights_only=True)  # no pickle, ever: nothing but tensors
    except Refusal:
        raise
    except Exception as error:  # what the two libraries raise for a damaged file has no class in common
        raise Refusal(f"'{path}' holds no readable tensors ({type(error).__name__}); check that it was copied whole") from None
    if not isinstance(loaded, dict) or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in loaded.items()):
        raise Refusal(f"'{path}' is no table of named tensors; save the model's state_dict() there")
    return loaded


def _find(source: str, models: Path | None) -> Path:
    if Path(source).is_dir():
        return Path(source)
    if models is not None and not missing_files(_place(source, models)):
        return _place(source, models)
    for bundle in bundles():
        if "/" not in source and (bundle / source).is_dir() and not missing_files(bundle / source):
            return bundle / source
    return _from_hub(source, models)


def _place(source: str, models: Path) -> Path:
    """Where a Home keeps the model ``source``: a hub id under its own name, a folder under its whole path."""
    return models / (str(Path(source).resolve()) if Path(source).is_dir() else source).replace("/", "--")


def _from_hub(source: str, models: Path | None) -> Path:
    """The hub's folder: as it was downloaded once if that is whole, else downloaded, a pickle only where nothing better is."""
    from huggingface_hub import snapshot_download

    missing = missing_files(_place(source, models) if models is not None else Path(os.devnull))
    reason = ""
    for here in (True, False):
        for weights in (SAFETENSORS, PICKLE):
            try:
                folder = Path(snapshot_download(source, allow_patterns=[*BESIDE_THE_WEIGHTS, weights], local_files_only=here))
            except Exception as error:  # the hub's, the network's and the disk's have no class in common
                reason = type(error).__name__
                if here:
                    continue
                break
            if not missing_files(folder):
                return folder
            missing, reason = missing_files(folder), "it lacks the same"
    where = f"'{_place(source, models)}'" if models is not None else "a folder, name that folder by --model"
    lacks = f"the model '{source}' lacks {'; '.join(missing)} here and the hub did not give it ({reason})"
    raise Refusal(f"{lacks}; put its files into {where}, {WAY_OUT}")


def _converted(folder: Path, place: Path) -> Path:
    """``folder`` with safetensors instead of its pickle, in ``place`` of a Home.

    The weights are written last and whole, and name the files that they were made of: a killed conversion leaves a
    folder that lacks weights, and a folder that changed is converted anew.
    """
    with locked(place.parent / ".lock"):  # one conversion at a time: a device's API and its node start together
        made_of = _stamp(folder)
        if _stamp_of(place / SAFETENSORS) == made_of:
            return place
        for name in BESIDE_THE_WEIGHTS if folder != place else ():
            if (folder / name).is_file():
                write_durably(place / name, (folder / name).read_bytes())
            else:
                (place / name).unlink(missing_ok=True)
        tensors = {name: tensor.contiguous() for name, tensor in read_tensors(folder / PICKLE).items()}
        write_durably(place / SAFETENSORS, save_tensors(_apart(tensors), metadata={"format": "pt", "made_of": made_of}))
    return place


def _apart(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, none sharing memory with another, as tied embeddings do."""
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return apart


def _stamp(folder: Path) -> str:
    """Which files a folder holds, cheaply: their sizes and times."""
    files = {name: (folder / name).stat() for name in (*BESIDE_THE_WEIGHTS, PICKLE) if (folder / name).is_file()}
    return json.dumps({name: [stat.st_size, stat.st_mtime_ns] for name, stat in files.items()})


def _stamp_of(weights: Path) -> str | None:
    try:
        with safe_open(str(weights), "pt") as file:
            return (file.metadata() or {}).get("made_of")
    except (OSError, SafetensorError):
        return None


def _one_of(names: tuple[str, ...]) -> str:
    return " or ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]
