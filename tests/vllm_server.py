"""An engine in place of vLLM's: TRL's client and all of its code above run, and only the requests end here.

No vLLM is installed where the tests run. What is emulated is the server's side: it keeps the weights that it was
started with or sent last, under the names of the model's own parameters, and samples from them.
"""

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.generation.vllm_client import VLLMClient


class Server:
    """`vllm serve FOLDER`: a copy of the model, and what it was asked."""

    def __init__(self, folder):
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.asked, self.received, self.trained, self.stale = [], 0, None, 0

    def receive(self, metadata, tensors):
        own = dict(self.model.named_parameters())
        assert [name for name, _, _ in metadata] == list(own), "the names of the model's own parameters"
        for (name, dtype, shape), (sent, tensor) in zip(metadata, tensors, strict=True):
            assert sent == name and list(tensor.shape) == shape and str(tensor.dtype) == f"torch.{dtype}"
            own[name].data.copy_(tensor)
        self.received += 1

    def watch(self, trained):
        """Counts as stale each request that is answered with other weights than those of `trained`."""
        self.trained = trained

    def is_current(self):
        own = dict(self.model.named_parameters())
        return all(torch.equal(own[name], p) for name, p in self.trained.named_parameters())

    def completions(self, request):
        self.asked.append(request)
        self.stale += self.trained is not None and not self.is_current()
        return {"choices": self.choices(request["prompt"], request)}

    def choices(self, prompts, request):
        sampling = {name: request[name] for name in ("temperature", "top_p", "top_k") if request["temperature"] > 0}
        read = self.tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        made = self.model.generate(
            **read,
            do_sample=request["temperature"] > 0,
            max_new_tokens=request["max_tokens"],
            pad_token_id=self.tokenizer.pad_token_id,
            return_dict_in_generate=True,
            output_scores=True,
            **sampling,
        )
        said = made.sequences[:, read["input_ids"].size(1) :]
        scores = torch.stack(made.scores, 1).log_softmax(-1).gather(-1, said[..., None])[..., 0]
        return [
            answered(ids, until_end(row, self.model.generation_config.eos_token_id), logprobs)
            for ids, row, logprobs in zip(prompts, said.tolist(), scores.tolist(), strict=True)
        ]


class Echo(Server):
    """Answers each prompt with a number made of its token ids, so that an answer shows which prompt it is to."""

    def choices(self, prompts, request):
        said = [self.tokenizer.encode(echo(ids), add_special_tokens=False) for ids in prompts]
        end = self.tokenizer.eos_token_id
        return [answered(ids, [*row, end], [0.0] * (len(row) + 1)) for ids, row in zip(prompts, said, strict=True)]


def echo(ids):
    return str(sum(ids) % 9973)


def until_end(ids, end):
    ends = end if isinstance(end, list) else [end]
    return next((ids[: k + 1] for k, token in enumerate(ids) if token in ends), ids)


def answered(prompt, said, scores):
    names = [f"token_id:{token}" for token in said]
    logprobs = {"tokens": names, "token_logprobs": scores[: len(said)], "top_logprobs": [{}] * len(said)}
    return {"prompt_token_ids": prompt, "token_ids": said, "logprobs": logprobs}


def client(servers):
    """A class in the place of TRL's client, whose requests end at `servers`, by their address."""

    class Client(VLLMClient):
        def __init__(self, base_url, group_port, connection_timeout):
            self.base_url, self.group_port = base_url, group_port
            self.server, self.model = servers[base_url], "model"
            self.server.group_port = group_port

        def init_communicator(self, device):
            pass

        def get_server_info(self):
            return {"model_config": {"logprobs_mode": "processed_logprobs"}}

        def _post(self, url, json):
            assert url == f"{self.base_url}/v1/completions"
            return self.server.completions(json)

        def update_named_params(self, metadata, named_params):
            self.server.receive(metadata, named_params)

        def reset_prefix_cache(self):
            pass

    return Client


def serve(servers, patch):
    """Lets TRL find these servers where it would look for vLLM's; `patch(name, value)` sets an attribute."""
    patch("trl.generation.vllm_generation.is_vllm_available", lambda *_, **__: True)
    patch("trl.generation.vllm_generation.VLLMClient", client(servers))


def rows_of_two_processes(build, folders):
    """Run by two processes: answers to another prompt than theirs, of all, in an evaluation and in a training.

    Args:
        build: Makes the trainer of these peers with the given settings.
    """
    from unittest import mock

    from pst_rl import PeerSpec
    from pst_rl.peers.peer_trainer import PeerTrainer

    servers = {f"http://{name}:8000": Echo(folder) for name, folder in folders.items()}
    serve(servers, lambda name, value: mock.patch(name, value).start())
    peers = {n: PeerSpec(folder, vllm_server_base_url=f"http://{n}:8000") for n, folder in folders.items()}
    trainer = build(peers, use_vllm=True, vllm_mode="server", context="sequential", order="random")
    complete, wrong, rows = PeerTrainer.complete, [], []

    def checked(engine, prompts, prompt_ids, greedy=False):
        made = complete(engine, prompts, prompt_ids, greedy)
        wrong.extend(t for t, ids in zip(made.texts, prompt_ids, strict=True) if t.replace(" ", "") != echo(ids))
        rows.append(len(prompt_ids))
        return made

    with mock.patch.object(PeerTrainer, "complete", checked):
        measured = trainer.measure(trainer.train_dataset.select(range(7)).select_columns(["prompt"]), samples=0)
        trainer.train()
    return {"wrong": wrong, "rows": rows, "measured": len(measured.greedy[0])}
