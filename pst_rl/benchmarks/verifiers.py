"""Verifiers: a score for each response to a question; the higher, the more it is believed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import AutoModelForSequenceClassification

from pst_rl.benchmarks.cache import Cache, cache_key
from pst_rl.benchmarks.model import LanguageModel, model_digest
from pst_rl.benchmarks.prompts import PromptFile
from pst_rl.coherence.label_words import LabelWords
from pst_rl.coherence.templates import Spare
from pst_rl.peers.foreign_text import quoted
from pst_rl.peers.positions import reading_window
from pst_rl.peers.prompts import Prompt, foreign_prompt, prompt_text
from pst_rl.peers.reader import PromptReader, load_tokenizer
from pst_rl.progress.phases import phase

WORDS = (("False", Spare(" False")), ("True", Spare(" True")))


@dataclass(frozen=True)
class Case:
    """A response to verify: the bare question, what the peer was shown, and what it answered."""

    question: str
    shown: str
    response: str


class Verifier(Protocol):
    """Attributes:
    key: What its scores depend on, as JSON.
    """

    @property
    def key(self) -> Any: ...

    def reads(self, case: Case) -> str:
        """The response as it is read, a model's behind its guard; scores are kept under it."""
        ...

    def score(self, cases: Sequence[Case]) -> list[float]:
        """A score for each case of a batch; the higher, the more it is believed."""
        ...


def verify(
    verifier: Verifier,
    cases: Sequence[Case],
    cache: Cache,
    batch_size: int,
    doing: str = "verifying",
) -> list[float]:
    """The scores of all cases; equal ones are scored once, and those in the cache not again.

    Args:
        doing: What the phase is called.

    Raises:
        ValueError: The verifier returns another number of scores than it was given cases.
    """
    keys = [cache_key(verifier.key, case.question, case.shown, verifier.reads(case)) for case in cases]
    missing = sorted(
        {key: case for key, case in zip(keys, cases, strict=True) if key not in cache}.items(),
        key=lambda pair: (len(pair[1].shown) + len(pair[1].response), pair[0]),
    )
    with phase(doing, len(keys), "responses", found=len(keys) - len(missing)) as scoring:
        for start in range(0, len(missing), batch_size):
            batch = missing[start : start + batch_size]
            scores = [float(value) for value in verifier.score([case for _, case in batch])]
            if len(scores) != len(batch):
                raise ValueError(f"The verifier gave {len(scores)} scores for {len(batch)} responses.")
            cache.put({key: value for (key, _), value in zip(batch, scores, strict=True)})
            scoring.advance(len(batch))
    return [cache[key] for key in keys]


@dataclass(frozen=True)
class TrueFalse:
    """A model is asked whether the response is right; score = P(True) / (P(True) + P(False)) at its next token.

    Source: "MC" in Mind the Gap, arXiv 2412.02674. The words and the prompt are our choice. Words are known by their
    first tokens (`LabelWords`). A response that does not fit the model's window loses its beginning. A line of it that
    opens like a line of the prompt is quoted (`pst_rl.peers.foreign_text`), so that no response can give the verdict.
    """

    judge: LanguageModel
    prompt: PromptFile

    @property
    def key(self) -> Any:
        return ["true_false", self.judge.digest, self.prompt.digest, *filter(None, [self.judge.rendering])]

    def __post_init__(self):
        _ = self.words  # a tokenizer that cannot tell them apart is refused before anything is asked

    @cached_property
    def words(self) -> LabelWords:
        return LabelWords(self.judge.tokenizer, WORDS, after=self.judge.render([{"role": "user", "content": "a"}]))

    def reads(self, case: Case) -> str:
        own = self.judge.format.guard.fill(lambda texts: prompt_text(self._asked(case, texts)), [case.response])
        return quoted(own[0], self.prompt.opening_words)

    def score(self, cases: Sequence[Case]) -> list[float]:
        log_probs = self.words.log_probs(self.judge.next_logits([self._prompt(case) for case in cases]))  # (B, 2)
        return log_probs.softmax(-1)[:, 1].tolist()

    def _prompt(self, case: Case) -> list[int]:
        room, response = self.judge.window - 1, case.response.strip()
        while True:
            asked = foreign_prompt(self.judge.format, lambda _, texts: self._asked(case, texts), "", [response])
            ids = self.judge.prompt_ids(asked)
            if len(ids) <= room:
                return ids
            if not response:
                raise ValueError(f"{self.judge.name} reads {self.judge.window} tokens, too few to judge an answer.")
            response = self.judge.keep_last_tokens(response, len(ids) - room)

    def _asked(self, case: Case, texts: Sequence[str]) -> Prompt:
        """The user's message about a response."""
        response = quoted(texts[0], self.prompt.opening_words)
        return [{"role": "user", "content": self.prompt.fill({"question": case.question, "response": response})}]


@dataclass(frozen=True)
class Likelihood:
    """How likely a model finds the response: score = (1/T) sum_t log p(token t | question, tokens before), in nats.

    The question is what the peer was shown. The text is tokenised anew by the judge, behind its guard, without an
    end-of-sequence token (an empty response is that token alone).

    Args:
        mean: Per token; otherwise the sum, which prefers short responses.
    """

    judge: LanguageModel
    mean: bool = True

    @property
    def key(self) -> Any:
        return ["likelihood", self.judge.digest, self.mean, *filter(None, [self.judge.rendering])]

    def reads(self, case: Case) -> str:
        return self.judge.format.guard.disarm(case.response, keep_tags=True)

    def score(self, cases: Sequence[Case]) -> list[float]:
        contexts = [self.judge.prompt_ids(self.judge.asked(case.shown)) for case in cases]
        targets = [self.judge.text_ids(case.response) or [self.judge.pad_id] for case in cases]
        room = self.judge.window
        targets = [t[: max(1, room - len(c))] for c, t in zip(contexts, targets, strict=True)]
        rows = self.judge.log_probs(contexts, targets)
        return [sum(row) / (len(row) if self.mean else 1) for row in rows]


class RewardModel(PromptReader):
    """A trained verifier: a sequence classifier that reads question and response as a conversation.

    score = its one logit, or logit of class 1 - logit of class 0.

    Raises:
        ValueError: It has more than two classes.
    """

    def __init__(self, path: str):
        settings = {"device_map": {"": 0}, "dtype": "auto"} if torch.cuda.is_available() else {"dtype": "float32"}
        self.model = AutoModelForSequenceClassification.from_pretrained(path, **settings).eval()
        super().__init__(load_tokenizer(path), "{prompt}")
        if self.model.config.num_labels > 2:
            raise ValueError(f"{path} has {self.model.config.num_labels} classes: a verifier has one or two.")
        self.model.config.pad_token_id = self.tokenizer.pad_token_id
        self.key = ["reward model", model_digest(path), *filter(None, [self.template_date])]

    def logits(self, cases: Sequence[Case]) -> torch.Tensor:
        """(B, classes), float32; differentiable."""
        inputs = self.tokenizer(
            [self._text(case) for case in cases],
            padding=True,
            truncation=True,
            max_length=reading_window(self.model.config),
            add_special_tokens=not self.format.chat,
            return_tensors="pt",
        )
        inputs = {name: inputs[name].to(self.model.device) for name in ("input_ids", "attention_mask")}
        return self.model(**inputs).logits.float()

    @torch.inference_mode()
    def score(self, cases: Sequence[Case]) -> list[float]:
        logits = self.logits(cases)
        return (logits[:, 0] if logits.size(1) == 1 else logits[:, 1] - logits[:, 0]).tolist()

    def reads(self, case: Case) -> str:
        fill = self.format.guard.fill
        return fill(lambda texts: prompt_text(self._conversation(case, texts)), [case.response])[0]

    def _text(self, case: Case) -> str:
        said = foreign_prompt(self.format, lambda _, texts: self._conversation(case, texts), "", [case.response])
        return self.render(said, answer_next=False)

    def _conversation(self, case: Case, texts: Sequence[str]) -> Prompt:
        if not self.format.chat:
            return f"{case.shown}\n{texts[0]}"
        return [{"role": "user", "content": case.shown}, {"role": "assistant", "content": texts[0]}]


@dataclass(frozen=True)
class Function:
    """Any function `(questions, responses) -> scores`, of lists of equal length."""

    function: Callable[[list[str], list[str]], Sequence[float]]
    name: str

    @property
    def key(self) -> Any:
        return ["function", self.name]

    def reads(self, case: Case) -> str:
        return case.response

    def score(self, cases: Sequence[Case]) -> list[float]:
        return list(self.function([case.question for case in cases], [case.response for case in cases]))


def load_verifier(name: str) -> Verifier:
    """A trained verifier: the folder of a sequence classifier, or `module:function`.

    Raises:
        ValueError: There is no such folder, module or function.
    """
    if (Path(name) / "config.json").is_file():
        return RewardModel(name)
    module, _, attribute = name.partition(":")
    if not attribute:
        raise ValueError(
            f"There is no verifier {name!r}: choose true_false, likelihood or likelihood_sum, or give the folder of a "
            "sequence classifier or a function as module:function."
        )
    if "" not in sys.path:
        sys.path.insert(0, "")  # a module beside which the command is called
    try:
        return Function(getattr(import_module(module), attribute), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"The verifier {name!r} cannot be imported: {error}.") from error
