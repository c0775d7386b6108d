"""vLLM as the engine that samples: a server of its own for each peer, and what TRL leaves to who calls it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from accelerate.utils import gather_object
from peft.tuners.tuners_utils import BaseTunerLayer

if TYPE_CHECKING:
    from trl import GRPOTrainer
    from trl.generation.vllm_generation import VLLMGeneration

    from pst_rl.config import PSTConfig
    from pst_rl.peers.spec import PeerSpec

SERVER = ("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_group_port")
GREEDY: dict[str, Any] = {"temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}
HERE = {"localhost", "127.0.0.1", "0.0.0.0", "::1", "::"}


# ---- before a model is loaded ----


def resolve_servers(specs: Mapping[str, PeerSpec], args: PSTConfig) -> dict[str, PeerSpec]:
    """The peers with `use_vllm` filled in, and with servers the four server fields: their own, or those of `args`.

    A `vllm_group_port` that a peer does not name is `args.vllm_group_port` plus its index among the peers that use
    vLLM, so that the groups in which the weights travel do not meet.

    Raises:
        ValueError: A peer's vLLM settings that nothing would read; several peers in one process's engine; two peers on
            one server or one group port; `n` in `generation_kwargs`; sleep mode without an engine to put to sleep.
    """
    for name, spec in specs.items():
        _check_peer(name, spec, args)
    served = [name for name, spec in specs.items() if args.use_vllm and spec.use_vllm is not False]
    if args.use_vllm:
        _check_mode(served, args)
    resolved = {name: replace(spec, use_vllm=name in served) for name, spec in specs.items()}
    if served and args.vllm_mode == "server":
        servers = {name: _with_server(resolved[name], args, index) for index, name in enumerate(served)}
        _check_distinct(servers)
        resolved |= servers
    return resolved


def _with_server(spec: PeerSpec, args: PSTConfig, index: int) -> PeerSpec:
    """A peer's server: its own fields, and those of `args` for the rest."""
    common = {field: getattr(args, field) for field in SERVER}
    common["vllm_group_port"] += index
    if (spec.vllm_server_host, spec.vllm_server_port) != (None, None):
        common["vllm_server_base_url"] = None  # TRL would prefer it to the peer's own host and port
    own = {field: value for field in SERVER if (value := getattr(spec, field)) is not None}
    return replace(spec, **common | own)


def _check_peer(name: str, spec: PeerSpec, args: PSTConfig) -> None:
    """Refuses settings of one peer that would do nothing."""
    if spec.use_vllm and not args.use_vllm:
        raise ValueError(
            f"Peer {name!r} has use_vllm=True, but the run has not: set PSTConfig(use_vllm=True), and "
            "PeerSpec(use_vllm=False) for the peers that answer without it."
        )
    named = [field for field in SERVER if getattr(spec, field) is not None]
    if named and not (args.use_vllm and spec.use_vllm is not False and args.vllm_mode == "server"):
        raise ValueError(
            f"Peer {name!r} has {', '.join(named)}, which only use_vllm=True with vllm_mode='server' reads. Set both "
            "in PSTConfig, or leave it out of the PeerSpec."
        )


def _check_mode(served: Sequence[str], args: PSTConfig) -> None:
    """Refuses modes that several peers cannot share, and options that a mode does not read."""
    if not served:
        raise ValueError("use_vllm=True, but every peer has PeerSpec(use_vllm=False). Set use_vllm=False.")
    if args.vllm_mode == "colocate" and len(served) > 1:
        raise ValueError(
            f"vllm_mode='colocate' (TRL's default) would start the engines of {', '.join(served)} in one process, "
            "which vLLM's global state and memory do not allow. Set vllm_mode='server' with a server for each peer, "
            "PeerSpec(model, vllm_server_base_url=...), or use_vllm=False in the PeerSpec of all but one."
        )
    if args.vllm_mode == "server" and args.vllm_enable_sleep_mode:
        raise ValueError(
            "vllm_enable_sleep_mode=True is for vllm_mode='colocate' with one peer; a server does not go to sleep. "
            "Set it to False."
        )
    if "n" in (args.generation_kwargs or {}):
        raise ValueError(
            "generation_kwargs has 'n', of which vLLM would return that many answers to each row. Leave it out; "
            "num_generations is the number of answers to a question."
        )


def _check_distinct(specs: Mapping[str, PeerSpec]) -> None:
    """One server and one group port for each peer."""
    servers: dict[tuple, str] = {}
    ports: dict[Any, str] = {}
    for name, spec in specs.items():
        url = spec.vllm_server_base_url or f"http://{spec.vllm_server_host}:{spec.vllm_server_port}"
        parts = urlsplit(url)
        server = ("here" if parts.hostname in HERE else parts.hostname, parts.port, parts.path.rstrip("/"))
        if server in servers:
            raise ValueError(
                f"The peers {servers[server]!r} and {name!r} both have the vLLM server {url}, which holds one model's "
                "weights. Start one for each peer and name it: PeerSpec(model, vllm_server_base_url=...), or opt out "
                "with PeerSpec(model, use_vllm=False)."
            )
        if spec.vllm_group_port in ports:
            raise ValueError(
                f"The peers {ports[spec.vllm_group_port]!r} and {name!r} both have vllm_group_port="
                f"{spec.vllm_group_port}, over which weights are sent. Give each its own, or leave it to us."
            )
        servers[server] = ports[spec.vllm_group_port] = name


def configure(args: PSTConfig, spec: PeerSpec) -> None:
    """Sets a peer's engine in its own copy of the arguments, for TRL to read."""
    args.use_vllm = bool(args.use_vllm and spec.use_vllm is not False)
    for field in SERVER:
        if (value := getattr(spec, field)) is not None:
            setattr(args, field, value)


# ---- the weights ----


def forget_weights(engine: GRPOTrainer) -> None:
    """vLLM holds weights of its own, which TRL sends anew only if it believes them to be of another step.

    That is not so after a checkpoint was loaded, in a second training, or in an evaluation between two steps; after
    this the weights are sent before the next answer.
    """
    engine._last_loaded_step = -1


def keep_base_weights(generation: VLLMGeneration) -> None:
    """Lets no synchronisation of a LoRA peer change its base weights.

    TRL merges the adapter into them, sends them, and subtracts it again: W + BA - BA is W up to rounding, once for
    each synchronisation. In bfloat16 W drifts so, while only the adapter is saved. A copy of the adapted layers'
    weights is kept meanwhile (none of 4-bit ones, which are replaced as a whole).
    """
    sync = generation.sync_weights

    def exact() -> None:
        modules = generation.model.modules()
        layers: list[Any] = [m.get_base_layer() for m in modules if isinstance(m, BaseTunerLayer)]
        saved = [(layer, layer.weight, layer.weight.is_floating_point()) for layer in layers]
        values = [weight.detach().clone() if dense else None for _, weight, dense in saved]
        try:
            sync()
        finally:
            for (layer, weight, _), value in zip(saved, values, strict=True):
                layer.weight = weight
                if value is not None:
                    weight.data.copy_(value)

    generation.sync_weights = exact  # type: ignore[method-assign]


# ---- the answers ----


def shares_engine(engine: GRPOTrainer) -> bool:
    """Whether one engine answers the rows of several processes: all must then call it, with equally many rows."""
    if not getattr(engine, "use_vllm", False) or engine.accelerator.num_processes == 1:
        return False
    generation = engine.vllm_generation
    return generation.mode == "server" or generation.tensor_parallel_size > 1


def level(engine: GRPOTrainer, prompt_ids: list[list[int]]) -> list[list[int]]:
    """The prompts, filled up with prompts of one token to as many as the process with the most of them has.

    TRL gathers the prompts of all processes, and hands the answers back in slices of equal length.
    """
    if not shares_engine(engine):
        return prompt_ids
    most = max(gather_object([len(prompt_ids)]))
    return prompt_ids + [[engine._tokenizer.eos_token_id]] * (most - len(prompt_ids))


def cut_at_end(
    ids: list[list[int]], logprobs: list[list[float]], ends: Sequence[int]
) -> tuple[list[list[int]], list[list[float]]]:
    """Completions up to and with their first end-of-sequence token, and their tokens' log-probabilities: vLLM stops
    only at those that it read in the model's folder, and may know fewer than the peer.
    """
    kept = [next((k + 1 for k, token in enumerate(row) if token in ends), len(row)) for row in ids]
    cut = lambda rows: [row[:n] for row, n in zip(rows, kept, strict=True)]  # noqa: E731
    return cut(ids), cut(logprobs)


@contextmanager
def greedy(generation: VLLMGeneration) -> Iterator[None]:
    """Greedy decoding: nothing is left of the sampling settings, nor of those in `generation_kwargs`, which win."""
    saved = {name: getattr(generation, name) for name in (*GREEDY, "generation_kwargs")}
    kept = {name: value for name, value in generation.generation_kwargs.items() if name not in GREEDY}
    vars(generation).update(GREEDY, generation_kwargs=kept)
    try:
        yield
    finally:
        vars(generation).update(saved)
