#!/usr/bin/env bash
# reduce_lr_on_plateau lowers the learning rate because the accuracy rises.
#
# Versions: transformers 5.23.0, torch 2.13.0, accelerate 1.15.0. Seen on 2026-11-30, on a CPU.
# Behaviour: lr_scheduler_type="reduce_lr_on_plateau" with metric_for_best_model="accuracy" and greater_is_better=True. The Trainer
#   keeps the best model by greater_is_better, but hands it to no scheduler: torch's ReduceLROnPlateau keeps its default mode "min",
#   takes every improvement for a plateau, and divides the rate by ten each time. lr_scheduler_kwargs={"mode": "max"} is the remedy.
# Output seen:
#   accuracy 0.1 to 0.6 rising, rate: 1 1 0.1 0.01 0.001 0.0001
#   with mode="max":            rate: 1 1 1 1 1 1
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 accelerate==1.15.0
cat > "$work/plateau.py" <<'END'
import tempfile
import torch
from transformers import Trainer, TrainingArguments

def rates(**scheduler):
    class Rising(Trainer):
        """Measures an accuracy that rises by 0.1 at each evaluation."""

        def evaluate(self, *args, **kwargs):
            self.measured = getattr(self, "measured", 0.0) + 0.1
            metrics = {"eval_accuracy": self.measured}
            self.log(metrics)
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
            seen.append(self.optimizer.param_groups[0]["lr"])
            return metrics

    class Model(torch.nn.Linear):
        def forward(self, x, labels=None):
            y = super().forward(x)
            return {"loss": (y - labels).pow(2).mean(), "logits": y}

    seen = []
    args = TrainingArguments(tempfile.mkdtemp(), use_cpu=True, report_to="none", max_steps=6, learning_rate=1.0, eval_strategy="steps",
                             eval_steps=1, save_strategy="no", lr_scheduler_type="reduce_lr_on_plateau", disable_tqdm=True,
                             metric_for_best_model="accuracy", greater_is_better=True, lr_scheduler_kwargs={"patience": 0} | scheduler)
    data = [{"x": torch.ones(1), "labels": torch.ones(1)}] * 8
    Rising(Model(1, 1), args, train_dataset=data, eval_dataset=data).train()
    return seen

plain, told = rates(), rates(mode="max")
print("accuracy 0.1 to 0.6 rising, rate:", *(f"{rate:.3g}" for rate in plain))
print('with mode="max":            rate:', *(f"{rate:.3g}" for rate in told))
assert plain[-1] < 1e-3 and told == [1.0] * 6
END
"$work/venv/bin/python" -W ignore "$work/plateau.py" | grep rate:
