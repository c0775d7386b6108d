"""One peer: a `GRPOTrainer` whose own loop never runs. `PSTTrainer` hands it rollouts, rewards and weights."""

from __future__ import annotations

import copy
import logging
import os
from collections import Counter
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.trainer_utils import IntervalStrategy
from trl import GRPOTrainer
from trl.trainer.utils import RepeatSampler

from pst_rl.config import PSTConfig
from pst_rl.peers import vllm
from pst_rl.peers.findings import SelfTest
from pst_rl.peers.generation import LiveCache, greedy_decoding, keep_savable, one_policy, sample, without_dropout
from pst_rl.peers.loading import adapter_weights, peer_model, repair_model, stored_dtype
from pst_rl.peers.micro_batches import Batch, filled_columns, sort_by_length
from pst_rl.peers.positions import reading_window
from pst_rl.peers.prompts import Prompt, cut_at_stop, usual_stops
from pst_rl.peers.reader import PromptReader
from pst_rl.peers.recentring import weighted_advantages
from pst_rl.peers.rounding import warning_of_lost_steps
from pst_rl.peers.shared_prompts import completion_logprobs
from pst_rl.peers.spec import PeerSpec
from pst_rl.progress.phases import part
from pst_rl.quiet import without_tied
from pst_rl.records import PeerUpdate, Rollout

logger = logging.getLogger(__name__)

PAPER = {
    "title": "Peer-Predictive Self-Training",
    "id": "2604.13356",
    # docstyle-ignore
    "citation": "@article{feng2026pst,\n    title = {{Peer-Predictive Self-Training}},\n"
    "    author = {Feng and Zhang and Nie and Kakade and Chen},\n    year = 2026,\n"
    "    eprint = {arXiv:2604.13356},\n}",
}

logger = logging.getLogger(__name__)


class _Abstentions(logging.Filter):
    """Drops TRL's per-batch warning about unscorable rows: abstaining is normal here, and counted in our metrics."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "All reward functions returned None" not in str(record.msg)  # accelerate puts the rank before it


logging.getLogger("trl.trainer.grpo_trainer").addFilter(_Abstentions())


class PeerTrainer(GRPOTrainer, PromptReader):
    """[`~trl.GRPOTrainer`] that replays the joint rollout, takes its rewards from it, and scales its advantages by it.

    Everything else (loading, NF4 and LoRA, generation back ends, reference model, all losses, metrics, model card, Hub
    repository) is TRL's.
    """

    _tag_names = ["trl", "pst-rl", "pst"]
    _name = "PST"
    _paper = PAPER

    args: PSTConfig
    model: PreTrainedModel
    model_wrapped: nn.Module
    max_completion_length: int
    chat_template_kwargs: dict[str, Any]
    push_in_progress: Any  # a `PushInProgress`, or none; transformers declares it as always none
    _buffered_inputs: list[Batch] | None  # type: ignore[assignment]  # TRL declares it as always none

    def __init__(self, spec: PeerSpec, args: PSTConfig, reward_names: list[str], train_dataset: Any):
        assert spec.name is not None  # `resolve_peers` has named it
        self.spec = spec
        self.update: PeerUpdate | None = None
        self.self_test = SelfTest()  # `pst_rl.peers.self_test` fills it
        self.tokens: Counter[str] = Counter()  # "generated" and "scored" on this process, prompts of scored texts too
        self.live: dict[tuple, tuple[LiveCache, int]] = {}  # (prompt ids, completion ids) -> where its keys are
        self.keeps_caches = False  # whether sampling leaves its keys and values there (`kept_caches`)
        args = copy.copy(args)  # another GRPOConfig would wipe accelerate's global state
        args.trust_remote_code = spec.trust_remote_code  # TRL's for the tokenizer
        args.output_dir = os.path.join(args.output_dir, spec.name)
        args.hub_model_id = args.hub_model_id and f"{args.hub_model_id}-{spec.name}"
        args.report_to = []
        args.log_completions = False
        vllm.configure(args, spec)
        args.eval_strategy, args.load_best_model_at_end = IntervalStrategy.NO, False  # the joint trainer evaluates
        model, tokenizer, args.model_init_kwargs = peer_model(spec, args)
        given, self.stored_dtype = adapter_weights(model), stored_dtype(spec)
        super().__init__(
            model=model,
            reward_funcs=[self._replayed_reward(name) for name in reward_names],
            args=args,
            train_dataset=train_dataset,
            processing_class=tokenizer,
            rollout_func=lambda prompts, trainer: self._replayed_rollout(),
            quantization_config=spec.quantization_config if isinstance(model, str) else None,
            peft_config=copy.deepcopy(spec.peft_config),
        )
        self.callback_handler.callbacks.clear()  # the joint trainer reports
        if self.use_vllm:
            vllm.keep_base_weights(self.vllm_generation)
        repair_model(self.model, spec, given)
        keep_savable(self.model)
        rate = args.learning_rate if spec.learning_rate is None else spec.learning_rate
        if "adam" in args.optim and (fault := warning_of_lost_steps(spec.name, self.model.parameters(), rate)):
            logger.warning(fault)
        PromptReader.__init__(
            self,
            self._tokenizer,
            args.base_template,
            ends=self.eos_token_ids,
            chat_template=self.chat_template,
            chat_template_kwargs=self.chat_template_kwargs,
            template_date=args.template_date,
        )
        self.stop_strings = usual_stops(self.format) if args.stop_strings is None else args.stop_strings
        if self.stop_strings and args.mask_truncated_completions:
            raise ValueError(
                f"Peer {spec.name!r} ends its responses at stop strings, without an end-of-sequence token, and "
                "mask_truncated_completions=True would mask them all. Set it to False."
            )

    def _issue_warnings_after_load(self, load_result):
        super()._issue_warnings_after_load(without_tied(load_result, self.model.all_tied_weights_keys))

    def _get_train_sampler(self, dataset=None):
        self.train_sampler = cast(RepeatSampler, super()._get_train_sampler(dataset))
        if self.args.data_seed is not None and self.shuffle_dataset:  # TRL's sampler reads `seed` only
            self.train_sampler.generator.manual_seed(self.args.data_seed)
        return self.train_sampler

    # ---- answering ----

    def begin_batch(self) -> None:
        """Forgets the keys, values, token counts and vLLM's weights of the last generation batch."""
        self.tokens.clear()
        self.live.clear()
        vllm.forget_weights(self)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        vllm.forget_weights(self)

    @property
    def can_keep_caches(self) -> bool:
        """Whether sampling can leave its keys and values: it shares prompts, and those of this architecture can be."""
        return self.args.shared_prefill and "from_cache" not in self.self_test.aside

    def note_caches(self, wanted: bool) -> None:
        """Says, if a weighting wants keys and values that sampling cannot leave, that it is scored without them."""
        if wanted and not self.can_keep_caches and self.accelerator.is_main_process:
            why = self.self_test.aside.get("from_cache", "its prompts are not shared")
            logger.warning("Peer %r: from_cache steps aside (%s): it is scored from token ids.", self.spec.name, why)

    def answer(self, prompts: list[Prompt], greedy: bool = False) -> Rollout:
        """Answers each prompt once through TRL's generation back end. Answers are not parsed yet."""
        return self.complete(prompts, [self.prompt_ids(prompt) for prompt in prompts], greedy)

    @torch.no_grad()
    def complete(self, prompts: list[Prompt], prompt_ids: list[list[int]], greedy: bool = False) -> Rollout:
        """Continues token ids: like [`answer`], for contexts that no prompt spells (a conversation so far).

        Dropout is off, whatever samples: the draws are the policy's own, which is what scores and measures them. TRL
        samples in training mode; its losses stay in it, as they are.

        Args:
            prompts: What is recorded as the prompt of each row.
            prompt_ids: The context of each row.
        """
        with greedy_decoding(self, greedy), one_policy(self), without_dropout(self.model):
            completion_ids, logprobs, cells = self._complete(prompt_ids)
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        finished = []
        for row, ids in enumerate(completion_ids):
            if not ids:  # a back end may return nothing at all; the loss needs one token
                completion_ids[row] = ids = [self._tokenizer.eos_token_id]
                if logprobs is not None:
                    logprobs[row] = [0.0]
            finished.append(ids[-1] in ends)
        texts = [self.response_text(ids) for ids in completion_ids]
        for row, text in enumerate(texts):
            if (at := cut_at_stop(text, self.stop_strings)) is not None:
                kept = max(1, self.prefix_tokens(completion_ids[row], at))
                completion_ids[row] = completion_ids[row][:kept]
                if logprobs is not None:
                    logprobs[row] = logprobs[row][:kept]
                texts[row], finished[row] = text[:at], True
        if self.keeps_caches and not greedy:
            for row, cell in ((row, cell) for row, cell in enumerate(cells) if cell[0] is not None):
                self.live[tuple(prompt_ids[row]), tuple(completion_ids[row])] = cell
        return Rollout(prompts, prompt_ids, completion_ids, logprobs, texts, [None] * len(texts), finished)

    def _complete(self, prompt_ids: list[list[int]]) -> tuple[list[list[int]], list[list[float]] | None, list]:
        """Completions of all rows, `rows_per_generate` rows at a time; their sampling log-probabilities, if the back
        end returns them; and where their keys and values are, if they are kept.
        """
        count, prompt_ids = len(prompt_ids), vllm.level(self, prompt_ids)
        size = self.args.rows_per_generate or max(1, len(prompt_ids))
        order = list(range(len(prompt_ids)))
        if size < len(order):
            order.sort(key=lambda row: len(prompt_ids[row]))
        completion_ids: list = [None] * len(order)
        logprobs: list = [None] * len(order)
        cells: list = [None] * len(order)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            with part(str(self.spec.name), len(rows)):
                ids, logps, live = self._sample([prompt_ids[row] for row in rows])
            for k, row in enumerate(rows):
                completion_ids[row], cells[row] = ids[k], (live, k)
                logprobs[row] = None if logps is None else logps[k]
        self.tokens["generated"] += sum(map(len, completion_ids[:count]))
        return completion_ids[:count], None if None in logprobs else logprobs[:count], cells[:count]

    def _sample(self, prompt_ids: list[list[int]]):
        """(completions, sampling log-probabilities or `None`, live cache or `None`)."""
        if self.args.shared_prefill and min(map(len, prompt_ids)) > 1:  # the last token is read with every row
            ids, live = sample(self, prompt_ids)
            return ids, None, live
        ids, logprobs = self._generate_single_turn(prompt_ids, None, {}, num_generations=1)
        if self.use_vllm:
            ids, logprobs = vllm.cut_at_end(ids, logprobs, self.eos_token_ids)
        return ids, logprobs, None

    def prefix_tokens(self, ids: list[int], characters: int) -> int:
        """The largest n for which the first n tokens say at most `characters` characters (`response_text`)."""
        low, high = 0, len(ids)
        while low < high:
            middle = (low + high + 1) // 2
            if len(self.response_text(ids[:middle])) <= characters:
                low = middle
            else:
                high = middle - 1
        return low

    def user_turn_ids(self, text: str) -> list[int]:
        """What this model's chat template puts between an assistant's end-of-turn token and its next answer, if the
        user says `text` in between: closing text, the user's turn, and the header of the assistant's.

        The tokens of the conversation so far play no part, so sampled tokens are never tokenised again.

        Raises:
            ValueError: The template writes earlier turns differently once there are later ones.
        """
        said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        before = self.message_ids(said, answer_next=False)
        after = self.message_ids([*said, {"role": "user", "content": text}])
        ends = [i + 1 for i, token in enumerate(before) if token in self.eos_token_ids]
        kept = ends[-1] if ends else len(before)
        if after[:kept] != before[:kept]:
            raise ValueError(
                f"The chat template of peer {self.spec.name!r} rewrites earlier turns when a user message follows, so "
                "a discussion cannot go on from sampled tokens. Use form='text'."
            )
        return after[kept:]

    # ---- prompt length ----

    @property
    def prompt_room(self) -> int:
        """Tokens a prompt may have so that the completion still fits the model's window."""
        return reading_window(self.model.config) - self.max_completion_length

    def count_tokens(self, prompt: Prompt) -> int:
        """Length of a prompt in tokens; short prompts are bounded by their bytes instead of being tokenised twice."""
        text = prompt if isinstance(prompt, str) else "".join(m["content"] for m in prompt)
        bound = len(text.encode("utf-8", "surrogatepass")) + 256  # no template adds more than this
        return bound if bound <= self.prompt_room else len(self.prompt_ids(prompt))

    # ---- the update ----

    @property
    def the_update(self) -> PeerUpdate:
        """`update`, for the step that learns from it."""
        if self.update is None:
            raise RuntimeError(
                f"Peer {self.spec.name!r} has no update: no generation batch has been handed to it yet."
            )
        return self.update

    def _replayed_rollout(self) -> dict[str, Any]:
        update = self.the_update
        rows = {"prompt_ids": update.prompt_ids, "completion_ids": update.completion_ids, "logprobs": update.logprobs}
        return rows if update.credit is None else rows | {"env_mask": update.credit.own}

    def _replayed_reward(self, name: str):
        def reward(**_) -> list[float]:
            return self.the_update.rewards[name]

        reward.__name__ = name  # becomes the metric's key
        return reward

    def _prepare_inputs(self, generation_batch):
        fresh = self._step % (self.args.steps_per_generation * self.num_iterations) == 0 or not self._buffered_inputs
        inputs = super()._prepare_inputs(generation_batch)
        if not (fresh and self._buffered_inputs and self.args.sort_micro_batches):
            return inputs
        window = self.args.gradient_accumulation_steps
        self._buffered_inputs = sort_by_length(self._buffered_inputs, window, by_prompt=self.args.shared_prompts)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _get_per_token_logps_and_entropies(
        self, model, input_ids, attention_mask, logits_to_keep, batch_size=None, compute_entropy=False, **options
    ):
        compute = super()._get_per_token_logps_and_entropies
        shared = self.args.shared_prompts and not options.get("compute_aux_loss")
        if not (shared or self.args.sort_micro_batches):
            return compute(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size,
                compute_entropy=compute_entropy,
                **options,
            )
        # Rows are padded to the widest of the generation batch: leave out the columns that no row here fills.
        first, keep = filled_columns(attention_mask, logits_to_keep)
        stop = input_ids.size(1) - (logits_to_keep - keep)
        ids, mask = input_ids[:, first:stop], attention_mask[:, first:stop]
        if shared and mask[:, : ids.size(1) - keep - 1].any(1).all():  # every prompt has a token before its last
            reader = self.accelerator.unwrap_model(model)
            size = batch_size or len(ids)
            with self.accelerator.autocast():
                parts = [
                    completion_logprobs(model, reader, *chunk, keep)
                    for chunk in zip(ids.split(size), mask.split(size), strict=True)
                ]
            logps, entropies = (torch.cat(values) for values in zip(*parts, strict=True))
            aux_loss = None
        else:
            logps, entropies, aux_loss = compute(
                model, ids, mask, keep, batch_size, compute_entropy=compute_entropy, **options
            )
        missing = (0, logits_to_keep - keep)
        entropies = torch.nn.functional.pad(entropies, missing) if compute_entropy else None
        return torch.nn.functional.pad(logps, missing), entropies, aux_loss

    def _generate_and_score_completions(self, inputs):
        update = self.the_update
        accumulation = self.args.gradient_accumulation_steps
        if update.on_policy:  # TRL computes old log-probabilities only if generation and update are misaligned
            self.args.gradient_accumulation_steps = self.args.steps_per_generation * self.num_iterations
        try:
            output = super()._generate_and_score_completions(inputs)
        finally:
            self.args.gradient_accumulation_steps = accumulation
        if update.on_policy:
            output.pop("old_per_token_logps", None)
        if update.token_count is not None:
            output["num_items_in_batch"] = torch.full_like(output["num_items_in_batch"], update.token_count)
        if update.advantages is not None:
            output["advantages"] = update.advantages.to(output["advantages"])
        elif update.weights is not None:
            recentre = self.args.recentre_weighted is not False
            output["advantages"], metrics = weighted_advantages(
                output["advantages"], update, self.args.num_generations, recentre, self.accelerator
            )
            for name, value in metrics.items():
                self._metrics["train"][name].append(value)
        if update.credit is not None:
            output["advantages"] = update.credit.per_token(output["advantages"], output["completion_ids"].size(1))
        return output
