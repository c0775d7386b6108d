"""A whole run: header, measuring, training, measuring, results, plot, saving."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from pst_rl.loop.first_measurement import first_measurement
from pst_rl.monitors.start import judge_measurement
from pst_rl.progress.phases import phase
from pst_rl.progress.show import showing
from pst_rl.progress.words import folded, terminal_width
from pst_rl.report import RunResults, plot_report, print_table, write_results
from pst_rl.report.compare import compare
from pst_rl.report.header import run_header

if TYPE_CHECKING:
    from pst_rl.stages.evaluation import Evaluation


def whole_run(
    trainer: Any,
    dataset: str = "the questions given",
    *,
    checkpoint: str | None = None,
    samples: int | None = None,
    pooled_questions: int | None = None,
    notes: Sequence[str] = (),
    more: Sequence[tuple[str, str]] = (),
    config: dict[str, Any] | None = None,
    ending: AbstractContextManager | None = None,
) -> RunResults | None:
    """Says what the run is, measures, trains, measures again, and saves results, plot and peers.

    Args:
        trainer: A [`~pst_rl.trainer.PSTTrainer`] with an evaluation set.
        dataset: What the questions are called in the results.
        checkpoint: To go on from. What was measured before training is then taken from its run, if it is there
            ([`~pst_rl.loop.first_measurement.first_measurement`]).
        samples, pooled_questions: As in `measure`.
        notes, more: For the header, see [`~pst_rl.report.header.run_header`].
        config: Everything that was set, for the results; by default the trainer's.
        ending: What handles an early end; it may swallow it.

    Returns:
        The results; `None` if the run ended early.

    Raises:
        NothingRead: No answer of any peer could be read, see `on_nothing_read`.
    """
    after: Evaluation | None = None
    with showing("pst-rl"), ending or nullcontext():
        _say(trainer, run_header(trainer, notes, more, checkpoint))
        before = first_measurement(trainer, checkpoint, samples, pooled_questions)
        args = trainer.args
        judged = judge_measurement(before, trainer.providers, args.max_completion_length, args.on_nothing_read)
        _say(trainer, [folded(line, terminal_width()) for line in judged])
        trainer.train(resume_from_checkpoint=checkpoint)
        if not trainer.preemption.stopped:
            with phase("measuring after training"):
                after = trainer.measure(samples=samples, pooled_questions=pooled_questions)
    if after is None:
        return None
    results = compare(before, after, trainer, dataset, trainer.args.to_dict() if config is None else config)
    with showing("pst-rl"):
        save(trainer, results)
    return results


def _say(trainer: Any, lines: Sequence[str]) -> None:
    if trainer.is_world_process_zero():
        print("\n".join(lines), flush=True)


def save(trainer: Any, results: RunResults) -> None:
    """Shows and writes the results, draws them, and saves (or pushes) the peers with them in their cards."""
    folder = trainer.args.output_dir
    main = trainer.is_world_process_zero()
    if main:
        trainer.results = results
        print_table(results)
        write_results(results, folder)
        trainer.save_state()  # the logs, also those after the last checkpoint: `pst-rl report` shows them
        plot_report(results, trainer.state.log_history, f"{folder}/report.png")
    with phase("saving"):
        if trainer.args.push_to_hub:
            trainer.push_to_hub()  # saves them too
        else:
            trainer.save_model()
    if main:
        names = ", ".join(results.peers)
        where = f"Results, plot and the trained peers are in {folder}: results.json, report.png, {names}"
        print(folded(where, terminal_width()))
        print(f"A page of it: {shlex.join(['pst-rl', 'report', str(folder)])}")
