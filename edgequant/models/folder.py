"""A Hugging Face model folder: is everything there that a conversion needs?

All of this is checked before anything slow starts, and without importing torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgequant.core.errors import ModelFolderError
from edgequant.core.hashing import sha256_file
from edgequant.core.json_file import read_json
from edgequant.core.progress import task
from edgequant.models.checks.config import check_config
from edgequant.models.checks.safetensors import StoredTensor, read_header
from edgequant.models.tokenizer_files import read_tokenizer_files

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "tokenizer.jsonl",
)
INPUT_SUFFIXES = (
    ".json",
    ".jsonl",
    ".model",
    ".txt",
    ".jinja",
    ".tiktoken",
    ".md",
)
"""Whatever the converter may read beside the weights; a file of another kind does not change its
output."""

WEIGHT_SUFFIXES = (".safetensors", ".bin")
SAFETENSORS_INDEX = "model.safetensors.index.json"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")


@dataclass(frozen=True)
class ModelFolder:
    """A folder that has what a conversion needs."""

    path: Path
    name: str
    architecture: str
    dtype: str
    """The weights' type as torch names it ("bfloat16"), or "" where nobody says."""
    weights: tuple[Path, ...]
    parameter_count: int
    """Numbers in all weights; estimated from the bytes where they are not safetensors."""
    has_chat_template: bool
    """Without one, the study's ChatML is the only form that a prompt can be given."""


def check_model_folder(path: Path) -> ModelFolder:
    """Look through a Hugging Face folder.

    Args:
        path: as the user typed it; resolved here, once, and nothing below sees it otherwise.

    Raises:
        ModelFolderError: no such folder, or what is missing or damaged in it.
    """
    if not path.is_dir():
        raise _not_a_folder(path)
    path = _snapshot_of(path.resolve())
    _check_links(path)
    _check_not_adapter(path)
    config = _config(path)
    _check_tokenizer(path)
    weights = _weights(path)
    headers = {file: read_header(file) for file in weights if file.suffix == ".safetensors"}
    architecture = _architecture(config, path)
    _check_indexed(path / SAFETENSORS_INDEX, headers)
    try:
        check_config(config, architecture, _by_name(headers))
    except ModelFolderError as error:
        raise ModelFolderError(error.cause, subject=path, next_step=error.next_step) from None
    dtype = config.get("torch_dtype") or config.get("dtype") or ""
    if not isinstance(dtype, str) or not dtype:
        dtype = _dtype_of(headers.values())
    if headers:
        parameters = sum(
            tensor.numbers for header in headers.values() for tensor in header.values()
        )
    else:
        parameters = sum(file.stat().st_size for file in weights) // 2
    return ModelFolder(
        path=path,
        name=model_name(path),
        architecture=architecture,
        dtype=dtype.removeprefix("torch."),
        weights=tuple(weights),
        parameter_count=parameters,
        has_chat_template=read_tokenizer_files(path).has_chat_template,
    )


def model_name(folder: Path) -> str:
    """What files made from a folder are called.

    The folder's name, but for a generic one ("model") its parent's, and for a snapshot in
    Hugging Face's own cache the repository's.
    """
    name = folder.name
    if folder.parent.name == "snapshots" and "--" in folder.parent.parent.name:
        name = folder.parent.parent.name.rpartition("--")[2]
    elif name.lower() in {"model", "hf", "checkpoint"} and folder.parent.name:
        name = folder.parent.name
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", name).strip("-.") or "model"


def hash_inputs(folder: ModelFolder) -> dict[str, str]:
    """SHA-256 of every file that the conversion may read, by its path in the folder.

    Raises:
        ModelFolderError: it has no weights: a key without them would be found again whatever
            they become.
    """
    if not folder.weights:
        raise ModelFolderError("has no weights that could be hashed", subject=folder.path)
    # The weights are taken as they were found, not looked for again: what the key covers must be
    # what the converter was checked against.
    files = sorted({*folder.weights, *_other_inputs(folder.path)})
    sizes = {file: file.stat().st_size for file in files}
    hashes: dict[str, str] = {}
    with task(f"Hashing {folder.name}", total=sum(sizes.values()), unit="bytes") as shown:
        for file in files:
            hashes[file.relative_to(folder.path).as_posix()] = sha256_file(file)
            shown.advance(sizes[file])
    return hashes


def _other_inputs(folder: Path) -> Iterator[Path]:
    """What the converter may read beside the weights.

    It looks one folder down, too: for more chat templates, and how an embedding is pooled.
    """
    for pattern in ("*", "*/*"):
        for file in folder.glob(pattern):
            hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
            if file.suffix in INPUT_SUFFIXES and file.is_file() and not hidden:
                yield file


def _snapshot_of(path: Path) -> Path:
    """The folder with the files, where a repository's root in Hugging Face's own cache is named.

    Raises:
        ModelFolderError: nobody can tell which of its snapshots is meant.
    """
    snapshots = path / "snapshots"
    if (path / "config.json").exists() or not snapshots.is_dir():
        return path
    found = {folder.name: folder for folder in sorted(snapshots.iterdir()) if folder.is_dir()}
    main = path / "refs" / "main"
    wanted = main.read_text(encoding="utf-8").strip() if main.is_file() else ""
    if wanted in found:
        return found[wanted]
    if len(found) == 1:
        return next(iter(found.values()))
    raise ModelFolderError(
        f"is the root of a hub cache with {len(found)} snapshots, none of them refs/main",
        subject=path,
        next_step=f"name one: {', '.join(str(folder) for folder in found.values())}"
        if found
        else "download the model again",
    )


def _not_a_folder(path: Path) -> ModelFolderError:
    if path.is_symlink() and not path.exists():
        return _dangling(path)
    if path.exists():
        return ModelFolderError(
            "is a file, not a Hugging Face model folder",
            subject=path,
            next_step="give the folder that holds config.json",
        )
    if re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", str(path)):
        return ModelFolderError(
            "no such folder; it looks like the id of a model on a hub",
            subject=path,
            next_step=f"edgequant pull {path} names the folder it lies in (in an experiment, "
            f'model.id = "{path}")',
        )
    return ModelFolderError(
        "no such folder", subject=path, next_step="give the folder that holds config.json"
    )


def _dangling(path: Path) -> ModelFolderError:
    return ModelFolderError(
        f"is a link to {path.readlink()}, which is not there",
        subject=path,
        next_step="download the model again, or mend the link",
    )


def _check_links(path: Path) -> None:
    """A link to nothing looks like a file that is not there; the cause is another."""
    for file in sorted(path.iterdir()):
        read = file.suffix in (*INPUT_SUFFIXES, *WEIGHT_SUFFIXES)
        if read and file.is_symlink() and not file.exists():
            raise _dangling(file)


def _check_not_adapter(path: Path) -> None:
    if not (path / "adapter_config.json").is_file() or any(path.glob("model*.safetensors")):
        return
    try:
        base = read_json(path / "adapter_config.json")["base_model_name_or_path"]
    except (OSError, ValueError, KeyError, TypeError):
        base = None
    raise ModelFolderError(
        "is an adapter" + (f" of {base}" if isinstance(base, str) and base else "") + ", not a "
        "model: its weights are changes to another model's",
        subject=path,
        next_step="give that model, and the adapter as a variant's first step: --variant "
        "NAME=lora:FOLDER,Q8_0",
    )


def _config(path: Path) -> dict[str, Any]:
    file = path / "config.json"
    try:
        config = read_json(file)
    except FileNotFoundError:
        hint = "give the folder that holds config.json"
        if any(path.glob("*.gguf")):
            hint = "it holds GGUF files, which need no conversion; " + hint
        raise ModelFolderError("has no config.json", subject=path, next_step=hint) from None
    except (ValueError, OSError) as error:
        raise ModelFolderError(f"is not valid JSON: {error}", subject=file) from error
    if not isinstance(config, dict):
        raise ModelFolderError("is not a JSON object", subject=file)
    return config


def _architecture(config: dict[str, Any], path: Path) -> str:
    """Whose weights these are, as the converter decides it."""
    text_config = config.get("text_config")
    for holder in (text_config if isinstance(text_config, dict) else {}, config):
        names = holder.get("architectures")
        if isinstance(names, list) and names and isinstance(names[0], str):
            return names[0]
    raise ModelFolderError(
        "names no architecture",
        subject=path / "config.json",
        next_step='it needs a line like "architectures": ["LlamaForCausalLM"]',
    )


def _check_tokenizer(path: Path) -> None:
    if any((path / name).is_file() for name in TOKENIZER_FILES) or any(path.glob("*.tiktoken")):
        return
    raise ModelFolderError(
        f"has no tokenizer (none of {', '.join(TOKENIZER_FILES)})",
        subject=path,
        next_step="copy the tokenizer's files into the folder",
    )


def _weights(path: Path) -> list[Path]:
    """The files the converter will read: safetensors where there are any."""
    for pattern, index_name in (
        ("model*.safetensors", SAFETENSORS_INDEX),
        ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ):
        files = {file.name: file for file in path.glob(pattern) if file.is_file()}
        index = path / index_name
        if index.is_file():
            _check_shards(index, files)
        if files:
            _check_no_part_alone(path, files)
            for file in files.values():
                _check_not_pointer(file)
            return [files[name] for name in sorted(files)]
    raise ModelFolderError(
        "has no weights (neither model*.safetensors nor pytorch_model*.bin)",
        subject=path,
        next_step="copy the weights into the folder",
    )


def _check_shards(index: Path, files: dict[str, Path]) -> None:
    try:
        shards = set(read_json(index)["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelFolderError("is not an index of weights", subject=index) from error
    missing = sorted(str(shard) for shard in shards - files.keys())
    if missing:
        raise ModelFolderError(
            f"{len(missing)} of {len(shards)} weight files are missing: {', '.join(missing[:5])}"
            + (" ..." if len(missing) > 5 else ""),
            subject=index.parent,
            next_step="download the missing files",
        )


def _check_no_part_alone(path: Path, files: Mapping[str, Path]) -> None:
    """A file's name may say that there are more, with an index or without one."""
    for name in files:
        if (part := _SHARD.fullmatch(name)) is None:
            continue
        count = int(part["count"])
        siblings = [
            found
            for other in files
            if (found := _SHARD.fullmatch(other)) is not None
            and (found["stem"], found["count"]) == (part["stem"], part["count"])
        ]
        there = {int(found["number"]) for found in siblings} & set(range(1, count + 1))
        if len(there) < count:
            gone = [number for number in range(1, count + 1) if number not in there]
            raise ModelFolderError(
                f"{len(gone)} of {count} weight files are missing beside {name}: number "
                + ", ".join(map(str, gone[:5]))
                + (" ..." if len(gone) > 5 else ""),
                subject=path,
                next_step="download the missing files",
            )


def _check_indexed(index: Path, headers: Mapping[Path, Mapping[str, StoredTensor]]) -> None:
    """Every tensor that the index names is in the file that it names."""
    if not index.is_file() or not headers:
        return
    names = {file.name: header for file, header in headers.items()}
    for tensor, shard in read_json(index)["weight_map"].items():
        if tensor not in names.get(shard, ()):
            raise ModelFolderError(
                f"names {tensor} in {shard}, which has no such tensor",
                subject=index,
                next_step="download this index and the weights again, of one revision",
            )


def _by_name(
    headers: Mapping[Path, Mapping[str, StoredTensor]],
) -> dict[str, tuple[Path, StoredTensor]]:
    found: dict[str, tuple[Path, StoredTensor]] = {}
    for file, header in headers.items():
        for name, tensor in header.items():
            if name in found:
                raise ModelFolderError(
                    f"has {name}, which {found[name][0].name} has too",
                    subject=file,
                    next_step="keep the files of one model only",
                )
            found[name] = (file, tensor)
    return found


def _check_not_pointer(file: Path) -> None:
    with file.open("rb") as stream:
        if stream.read(len(LFS_POINTER)) == LFS_POINTER:
            raise ModelFolderError(
                "is a Git LFS pointer, not the weights",
                subject=file,
                next_step="run `git lfs pull` in the folder",
            )


def _dtype_of(headers: Iterable[Mapping[str, StoredTensor]]) -> str:
    """The torch name of the type that most numbers have."""
    counts: dict[str, int] = {}
    for header in headers:
        for tensor in header.values():
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.numbers
    names = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}
    return names.get(max(counts, key=lambda kind: counts[kind]), "") if counts else ""
