"""Conditioning by training: a predictor whose model was fine-tuned on labelled items."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pst_rl.coherence.predictor import Demo, Predictor

if TYPE_CHECKING:
    from peft import PeftConfig

    from pst_rl.coherence.language_model import LanguageModelPredictor

_QUIET: dict[str, Any] = {
    "save_strategy": "no",
    "report_to": "none",
    "disable_tqdm": True,
    "logging_strategy": "no",
}

TRAINING: dict[str, Any] = {
    "learning_rate": 1e-4,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 16,
    "lr_scheduler_type": "linear",
}
"""Defaults, our choice: set `learning_rate` for your model, 1e-5 for all weights of a large one."""


def fine_tuned(
    predictor: Predictor,
    demos: Sequence[Demo],
    training: Mapping[str, Any] | None = None,
    peft_config: PeftConfig | None = None,
    *,
    seed: int = 0,
) -> LanguageModelPredictor:
    """The same items under a copy of the model, after TRL's supervised fine-tuning on `demos`.

        loss = - mean over demos of log p(label's first word | prompt)

    The tokens are those that the predictor reads: prompt and label, each pair an example of its own.

    Args:
        demos: (item, label) pairs, at least one.
        training: Fields of `SFTConfig` on top of `TRAINING`.
        peft_config: Train an adapter instead of all weights; needed for a quantised model.
        seed: Of the order of examples.

    Returns:
        A predictor whose `tokens` starts with those trained on: examples times epochs.

    Raises:
        ValueError: No demonstrations, or a predictor that is no language model.
    """
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback
    from trl import SFTConfig, SFTTrainer

    from pst_rl.coherence.language_model import LanguageModelPredictor

    if not isinstance(predictor, LanguageModelPredictor):
        raise ValueError(f"Only a language model can be fine-tuned, not a {type(predictor).__name__}.")
    if not demos:
        raise ValueError("There is nothing to fine-tune on: no item has a label.")
    rows = []
    for item, label in demos:
        prompt, word = predictor.start_ids + predictor.prompt_ids[item], predictor.words.ids[label]
        rows.append({"input_ids": prompt + word, "completion_mask": [0] * len(prompt) + [1] * len(word)})
    with tempfile.TemporaryDirectory() as folder:
        args = SFTConfig(folder, seed=seed, bf16=False, **_QUIET | TRAINING | dict(training or {}))
        trainer = SFTTrainer(
            copy.deepcopy(predictor.model),
            args,
            train_dataset=Dataset.from_list(rows),
            processing_class=predictor.tokenizer,
            peft_config=peft_config,
        )
        trainer.pop_callback(PrinterCallback)  # prints a line at the end of every fine-tuning
        trainer.train()
        model: Any = trainer.model  # TRL's own type has `None` and any module in it
        trained = predictor.with_model(model.eval())
    trained.tokens = round(sum(len(row["input_ids"]) for row in rows) * (trainer.state.epoch or 0))
    return trained
