"""What was measured before training, kept in the run's folder: a run that goes on need not measure it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from pst_rl import __version__
from pst_rl.answers import Answer
from pst_rl.files import json_digest, write_atomically
from pst_rl.loop.identity import differences, prompts_fingerprint
from pst_rl.loop.used_folder import MEASURED
from pst_rl.progress.phases import phase, say
from pst_rl.progress.words import folded, terminal_width
from pst_rl.records import Response
from pst_rl.stages.evaluation import Evaluation


def first_measurement(
    trainer: Any, checkpoint: str | None, samples: int | None, pooled_questions: int | None
) -> Evaluation:
    """The measurement before training: made now, or that of the run which goes on from a checkpoint.

    It is taken from the folder of the checkpoint if it is of this run (`pst_rl.loop.identity`), of these questions and
    golds, and of as many samples; else it is made anew, and a line says why. What is measured is kept where
    checkpoints are saved. Draws in training are the same either way: a checkpoint brings its random states.

    Args:
        trainer: A [`~pst_rl.trainer.PSTTrainer`] with an evaluation set.
        checkpoint: The folder to go on from.
        samples, pooled_questions: As in `measure`.
    """
    folder = Path(checkpoint).parent if checkpoint else Path(trainer.args.output_dir)
    keeps = trainer.args.save_strategy != "no"
    known = _known(trainer, samples, pooled_questions) if keeps or checkpoint else {}
    if checkpoint:
        found: list[Any] = [None]
        if trainer.is_world_process_zero():
            found = [_kept(folder / MEASURED, known)]
        kept, why = broadcast_object_list(found)[0]
        if trainer.is_world_process_zero():
            again = f"measured before training: again, as {why}"
            said = again if kept is None else f"measured before training: taken from {folder / MEASURED}"
            say(folded(said, terminal_width()))
        if kept is not None:
            return kept
    with phase("measuring before training"):
        made = trainer.measure(samples=samples, pooled_questions=pooled_questions)
    if keeps and trainer.is_world_process_zero() and type(made) is Evaluation:  # one of a subclass may hold more
        content = {"of": known, "evaluation": asdict(made)}
        write_atomically(Path(trainer.args.output_dir) / MEASURED, json.dumps(content))
    return made


def _known(trainer: Any, samples: int | None, pooled_questions: int | None) -> dict[str, Any]:
    """What a measurement is known by, as JSON values."""
    dataset, gold = trainer._questions(None)
    known = {
        "run": trainer.identity(),
        "pst_rl": __version__,  # another one may read answers otherwise
        "questions": prompts_fingerprint(dataset),
        "gold": json_digest(list(gold.answers) if gold else None, 16, default=str),
        "answer_metric": trainer.args.answer_metric,
        "samples": trainer.args.eval_samples if samples is None else samples,
        "pooled_questions": pooled_questions,
    }
    return json.loads(json.dumps(known))


def _kept(file: Path, known: Mapping[str, Any]) -> tuple[Evaluation | None, str]:
    """The measurement in a file, or why it cannot be taken."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if lines := differences(content["of"], known):
            more = f" and {len(lines) - 1} more differences" if len(lines) > 1 else ""
            return None, f"{file} is of something else ({lines[0].replace('in the checkpoint', 'then')}{more})"
        return _evaluation(content["evaluation"]), ""
    except FileNotFoundError:
        return None, f"there is no {file}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"{file} cannot be read ({error})"


def _evaluation(content: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        names=tuple(content["names"]),
        greedy=[[_response(row) for row in rows] for rows in content["greedy"]],
        sampled=[[tuple(map(_response, chains)) for chains in rows] for rows in content["sampled"]],
        correct=content["correct"],
    )


def _response(row: dict[str, Any]) -> Response:
    answer = row["answer"]
    read = answer and Answer(**answer | {"span": tuple(answer["span"])})
    return Response(row["text"], read, row["finished"], row["length"])
