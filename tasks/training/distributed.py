"""Several processes that train one model, each with its part of every batch.

They are started by `train.processes`, by torchrun or by Ray. Without any of these there is one.
"""

import contextlib
import copy
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from tasks.core.errors import EXIT_RETRYABLE, RetryableError

Item = TypeVar("Item")
DEVICE_FOLDER = Path("/dev")
PR_SET_PDEATHSIG = 1  # of Linux's prctl: the signal that a process gets when its parent dies
# Parts of torch's messages when a process cannot reach another one.
CONNECTION_ERRORS = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "NCCL error",
    "gloo",
    "TCPStore",
)


def is_launched() -> bool:
    """Return whether torchrun, Ray or `launch` has started this process as one of several."""
    return "TORCHELASTIC_RUN_ID" in os.environ or distributed.is_initialized()


def rank() -> int:
    """Return the number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def compute_device() -> torch.device:
    """Return this process's GPU; the CPU if the machine has none.

    Raises:
        RetryableError: There is a GPU, but it does not answer. On the CPU training would begin
            anew, and take days.
    """
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    if is_gpu_expected():
        raise RetryableError(
            "this machine's GPU does not answer: see what nvidia-smi says. To train on the CPU, "
            "set CUDA_VISIBLE_DEVICES to nothing."
        )
    return torch.device("cpu")


def is_gpu_expected() -> bool:
    """Return whether torch is built for GPUs, may use them, and the machine has one."""
    if not torch.version.cuda or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return False
    return any(DEVICE_FOLDER.glob("nvidia[0-9]*"))


def parameter_device(is_sharded: bool) -> torch.device:  # noqa: FBT001
    """Return where the whole network is: sharded, it may be too large for one GPU."""
    if is_sharded and world_size() > 1:
        return torch.device("cpu")
    return compute_device()


def hardware_fingerprint() -> list[str | int]:
    """List what the bits of the weights depend on beside data, recipe and code."""
    device = compute_device()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"cpu {torch.get_num_threads()} {has_bf16(device)}"
    return [torch.__version__, name, world_size()]


def has_bf16(device: torch.device) -> bool:
    """Return whether the hardware multiplies bf16; emulated, it is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Connect the processes with each other.

    A process that loses another one exits as retryable and prints one line, because the other one
    has said what happened.
    """
    # Ray has connected its workers already.
    if not is_launched() or distributed.is_initialized():
        yield
        return
    if sys.platform == "linux":  # without its launcher it would go on beside the next try
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if torch.cuda.is_available():
        torch.cuda.set_device(compute_device())
    try:
        connect()
        yield
        distributed.destroy_process_group()
    except RuntimeError as error:
        if not any(words in str(error) for words in CONNECTION_ERRORS):
            raise
        reason = str(error).splitlines()[0]
        print(f"process {rank()} lost another one: {reason}", file=sys.stderr, flush=True)
        sys.exit(EXIT_RETRYABLE)


def connect() -> None:
    """Join the process group that torchrun's environment variables describe."""
    store, own_rank, n_processes = next(rendezvous("env://"))
    # torchrun's own store still has the addresses of processes from before a restart.
    store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=own_rank, world_size=n_processes)


def slice_for_rank(items: list[Item]) -> list[Item]:
    """Return this process's part of a list, which may be empty."""
    return items[rank() :: world_size()]


def parallelize(network: torch.nn.Module, is_sharded: bool) -> torch.nn.Module:  # noqa: FBT001
    """Return the network whose gradients are the mean over all processes.

    It starts from the weights of the first process.

    Args:
        network: The network; it stays as it is.
        is_sharded: Whether each process holds a part of every layer's weights, gradients and
            moments (FSDP2). They are in a copy in the CPU's memory; a GPU holds no more than one
            layer at once.
    """
    if world_size() == 1:
        return network
    if is_sharded:
        return shard_network(network)
    device_ids = [compute_device().index] if torch.cuda.is_available() else None
    return DistributedDataParallel(network, device_ids=device_ids)


def shard_network(network: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of the network, sharded over the processes layer by layer."""
    sharded = copy.deepcopy(network)
    for tensor in sharded.state_dict().values():
        on_device = tensor.to(compute_device())
        distributed.broadcast(on_device, 0)
        tensor.copy_(on_device)
    layers: list[torch.nn.Module] = []
    for module in sharded.modules():
        if isinstance(module, torch.nn.ModuleList):
            layers.extend(module)
    for layer in [*layers, sharded]:
        fully_shard(layer)
    return sharded


def full_state_dict(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the whole weights by name.

    If the network is sharded, all processes have to call this, and the first one gets them.
    """
    if isinstance(network, FSDPModule):
        options = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return get_model_state_dict(network, options=options)  # type: ignore[return-value]
    if isinstance(network, DistributedDataParallel):
        network = network.module
    weights: dict[str, torch.Tensor] = network.state_dict()
    return weights


def gather(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor whole, whether it is sharded or not."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def shard_like(value: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return a value on the device of another tensor, and sharded as it is.

    It has the same order in memory too, by which fused optimizers find what belongs together. A
    value of another shape, such as a count of steps, is only moved.
    """
    if value.shape != like.shape:
        return value.to(like.device)
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return torch.empty_like(like, dtype=value.dtype).copy_(value)


def gradient_sync(
    network: torch.nn.Module, *, is_last: bool
) -> contextlib.AbstractContextManager[Any]:
    """Return the context of a microbatch: gradients are exchanged with the last one alone."""
    if isinstance(network, FSDPModule):
        network.set_requires_gradient_sync(is_last)
    if isinstance(network, DistributedDataParallel) and not is_last:
        return network.no_sync()
    return contextlib.nullcontext()


def sum_over_ranks(value: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes."""
    if world_size() > 1:
        distributed.all_reduce(value)
    return value


def broadcast_flag(value: bool) -> bool:  # noqa: FBT001
    """Return the first process's value in all processes."""
    flag = torch.tensor(float(value and rank() == 0), device=compute_device())
    return bool(sum_over_ranks(flag).item())
