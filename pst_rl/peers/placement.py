"""Where the peers live: all of them on the one device of every process. Other launches are refused."""

from __future__ import annotations

import os

from pst_rl.config import PSTConfig


def check_launch(args: PSTConfig) -> None:
    """Refuses, before any model is loaded, a launch in which a peer would not be whole on its process's one device.

    Raises:
        ValueError: DeepSpeed or FSDP, which wrap one model; several GPUs visible to one process, over which the layers
            of every peer would be spread.
    """
    deepspeed = args.deepspeed or os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true"
    fsdp = args.fsdp or os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if deepspeed or fsdp:
        kind = "DeepSpeed" if deepspeed else "FSDP"
        raise ValueError(
            f"{kind} is not supported: it wraps one model, and there are several peers. Launch with plain data "
            "parallelism (`accelerate launch --multi_gpu`); if the peers do not fit, use --load-in-4bit --use-peft "
            "and gradient checkpointing."
        )
    if args.n_gpu > 1:
        raise ValueError(
            f"{args.n_gpu} GPUs are visible to one process, and spreading peers over devices is not supported. Use "
            "all of them with `accelerate launch --multi_gpu`, or one with CUDA_VISIBLE_DEVICES=0."
        )
