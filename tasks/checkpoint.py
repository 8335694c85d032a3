"""Checkpoints: whole or absent, verified before use, without pickles.

A checkpoint is a folder `<step>` with state.json and safetensors files. It is written beside under another name, hashed, synced and renamed; the
newest two are kept, so that a broken one leaves the one before it.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from tasks import files

KEPT = 2
Tensors = dict[str, torch.Tensor]


def save(folder: Path, step: int, state: dict[str, Any], groups: dict[str, Tensors]) -> Path:
    """Write the checkpoint of `step`; `groups` maps a file's name to its tensors."""
    target = folder / f"{step:09d}"
    temporary = folder / f".{step:09d}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    hashes = {}
    for name, tensors in groups.items():
        path = temporary / f"{name}.safetensors"
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, path)
        hashes[name] = files.sha256(path)
        sync(path)
    (temporary / "state.json").write_text(json.dumps({"step": step, "state": state, "sha256": hashes}, sort_keys=True))
    sync(temporary / "state.json")
    shutil.rmtree(target, ignore_errors=True)
    temporary.replace(target)
    sync(folder)
    for old in found(folder)[:-KEPT]:
        shutil.rmtree(old)
    return target


def latest(folder: Path) -> tuple[dict[str, Any], dict[str, Tensors]] | None:
    """The newest checkpoint whose bytes verify, as (state, groups), or None."""
    for path in reversed(found(folder)):
        try:
            about = json.loads((path / "state.json").read_text())
            for name, digest in about["sha256"].items():
                if files.sha256(path / f"{name}.safetensors") != digest:
                    raise ValueError(f"{name}.safetensors does not match its hash")
            return about["state"], {name: load_file(path / f"{name}.safetensors") for name in about["sha256"]}
        except (OSError, ValueError, KeyError) as error:
            print(f"checkpoint {path} is broken ({error}); trying the one before it", flush=True)
    return None


def found(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if path.is_dir()) if folder.is_dir() else []


def sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
