"""Several processes that train one model, each on its share of every batch. Started by `train.processes`, or by torchrun; otherwise this is one process."""

import contextlib
import copy
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from tasks.core.errors import EXIT_RETRYABLE, RetryableError

DEVICE_FOLDER = Path("/dev")
CONNECTION_ERRORS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "NCCL error",
    "gloo",
    "TCPStore",
)


def is_launched() -> bool:
    """Whether torchrun, Ray or `launch` has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or distributed.is_initialized()


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def compute_device() -> torch.device:
    """The GPU where there is one. Raises Retryable where there is one that does not answer: on the CPU all would begin anew, and take days."""
    there = (
        torch.version.cuda
        and os.environ.get("CUDA_VISIBLE_DEVICES") != ""
        and any(DEVICE_FOLDER.glob("nvidia[0-9]*"))
    )
    if there and not torch.cuda.is_available():
        raise RetryableError(
            "this machine's GPU does not answer: see what nvidia-smi says. To train on the CPU, set CUDA_VISIBLE_DEVICES to nothing."
        )
    return (
        torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def parameter_device(shard: bool) -> torch.device:
    """Where the whole network is: what is divided among processes may be too large for one's GPU."""
    return torch.device("cpu") if shard and world_size() > 1 else compute_device()


def hardware_fingerprint() -> list[Any]:
    """What the bits of the weights depend on besides data, recipe and code."""
    where = compute_device()
    named = (
        torch.cuda.get_device_name(where)
        if where.type == "cuda"
        else f"cpu {torch.get_num_threads()} {has_bf16(where)}"
    )
    return [torch.__version__, named, world_size()]


def has_bf16(where: torch.device) -> bool:
    """Whether the hardware multiplies bf16; where it only emulates it, it would be slower than fp32."""
    if where.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Within it the processes know each other. One that loses another ends without a word: the other has said what happened."""
    if not is_launched() or distributed.is_initialized():  # Ray has made them known to each other
        yield
        return
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(
            1, signal.SIGKILL
        )  # PR_SET_PDEATHSIG: without its launcher it would go on beside the next try
    if torch.cuda.is_available():
        torch.cuda.set_device(compute_device())
    try:
        store, number, processes = next(rendezvous("env://"))
        store = PrefixStore(
            os.environ["TORCHELASTIC_RESTART_COUNT"], store
        )  # torchrun's own still has the addresses of processes before a restart
        distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            store=store,
            rank=number,
            world_size=processes,
        )
        yield
        distributed.destroy_process_group()
    except RuntimeError as error:
        if not any(word in str(error) for word in CONNECTION_ERRORS):
            raise
        print(
            f"process {rank()} lost another one: {str(error).splitlines()[0]}",
            file=sys.stderr,
            flush=True,
        )
        sys.exit(EXIT_RETRYABLE)


def slice_for_rank(batches: list[Any]) -> list[Any]:
    """This process's part of a list, which may be empty."""
    return batches[rank() :: world_size()]


def parallelize(network: torch.nn.Module, shard: bool) -> torch.nn.Module:
    """The network whose gradients are the mean over all processes. It starts from the weights of the first.

    With `shard` each process holds a part of every layer's weights, gradients and moments (FSDP2), in a copy that leaves the network as it is, in the memory of
    the CPU: of a GPU's memory no more than a layer is used at once.
    """
    if world_size() == 1:
        return network
    if not shard:
        return DistributedDataParallel(
            network, device_ids=[compute_device().index] if torch.cuda.is_available() else None
        )
    whole = copy.deepcopy(network)
    for tensor in whole.state_dict().values():
        there = tensor.to(compute_device())
        distributed.broadcast(there, 0)
        tensor.copy_(there)
    layers = [
        layer
        for stack in whole.modules()
        if isinstance(stack, torch.nn.ModuleList)
        for layer in stack
    ]
    for layer in [*layers, whole]:
        fully_shard(layer)
    return whole


def full_state_dict(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights by name. Where they are in parts, all processes have to call this, and the first one gets them."""
    if isinstance(network, FSDPModule):
        return get_model_state_dict(
            network, options=StateDictOptions(full_state_dict=True, cpu_offload=True)
        )  # type: ignore[return-value]
    return (
        network.module if isinstance(network, DistributedDataParallel) else network
    ).state_dict()


def gather(value: torch.Tensor) -> torch.Tensor:
    return value.full_tensor() if isinstance(value, DTensor) else value


def shard_like(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The value as `like` is kept: on its device, in parts or whole, and in its order in memory, by which fused optimizers find what belongs together."""
    if value.shape != like.shape:
        return value.to(like.device)
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return torch.empty_like(like, dtype=value.dtype).copy_(value)


def gradient_sync(network: torch.nn.Module, last: bool) -> contextlib.AbstractContextManager[Any]:
    """Around forward and backward of one part of a step: gradients are exchanged with the last alone."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(last)
    return (
        network.no_sync()
        if isinstance(network, DistributedDataParallel) and not last
        else contextlib.nullcontext()
    )


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """The sum over all processes."""
    if world_size() > 1:
        distributed.all_reduce(value)
    return value


def broadcast_flag(first: bool) -> bool:
    """What the first process says."""
    return bool(
        sum_over_ranks(torch.tensor(float(first and rank() == 0), device=compute_device())).item()
    )
