"""Three models train each other on math questions without labels, and are measured before and after.

    accelerate launch examples/pst_math.py                                  # embedded tiny peers, CPU, minutes
    accelerate launch examples/pst_math.py --objective aggregate_sft        # the same, learning from the aggregate
    accelerate launch examples/pst_math.py --preset qlora                  # Gemma-2-2B, Llama-3.2-1B, Qwen2.5-1.5B
    accelerate launch examples/pst_math.py --preset paper --peers tiny      # the published protocol on the tiny peers
    accelerate launch examples/pst_math.py --peers A B C --dataset my.jsonl --output-dir runs/mine

All options of `PSTConfig` (a `GRPOConfig`) and of TRL's `ModelConfig` are flags; `--config FILE.yaml` sets them from a
file, and flags override it. Exit status: 0 done, 2 bad input, 70 numeric fault, 74 no checkpoint could be written,
130 Ctrl-C, 143 SIGTERM; after the last four, the command to go on with is printed.
"""

import sys
from dataclasses import asdict, dataclass, field

from pst_rl.commandline import check_resume, fail, parse
from pst_rl.presets import PRESETS, TINY_STYLE
from pst_rl.run_lock import RunLock


@dataclass
class ScriptArguments:
    """Peer-Predictive Self-Training on math questions: no labels are used, except to measure."""

    preset: str = "demo"
    """Named options to start from: demo, qlora or paper."""
    config: str | None = None
    """YAML file with options; flags override it."""
    peers: list[str] = field(default_factory=lambda: ["tiny"])
    """Hub ids or folders of the models; `tiny` stands for the three embedded ones."""
    dataset: str = "tiny"
    """`tiny`, multiarith, simuleq, math500, gsm8k, a Hub id, or a .jsonl, .json, .csv or .parquet file."""
    question_column: str | None = None
    """Column with the questions, if it cannot be guessed."""
    answer_column: str | None = None
    """Column with gold answers (used to measure only), if it cannot be guessed."""
    prompt_template: str = "{question}"
    """Prompt around each question."""
    train_questions: int | None = None
    """Unlabelled questions to train on; unset: all of the training split."""
    eval_split: str = "test"
    """Split to measure on; choose settings on `validation`."""
    test_questions: int = 900
    """Held-out questions to measure greedy exact match on."""
    pooled_questions: int = 300
    """How many of them are also answered by samples, for the pooled vote; 0 to leave it out."""
    pooled_samples: int = 8
    """Samples per peer and question for the pooled vote."""


def main() -> int:
    arguments = parse(ScriptArguments, PRESETS, TINY_STYLE)
    script, args, model = arguments.script, arguments.config, arguments.model

    # The heavy imports come after parsing, so that --help and typos answer at once.
    from trl import get_peft_config, get_quantization_config

    from pst_rl import PSTTrainer, load_questions
    from pst_rl.checkpoints import CheckpointError
    from pst_rl.faults import NumericFault
    from pst_rl.measure.compare import compare
    from pst_rl.progress import show_progress
    from pst_rl.report import plot_report, print_table, write_results
    from pst_rl.tiny import TINY_PEERS

    # ---- questions and peers -------------------------------------------------------------------------------------
    try:
        RunLock(args.output_dir, active=args.should_save).hold()  # one run in a folder, from here to the end
        check_resume(args)
        columns = {"question_column": script.question_column, "answer_column": script.answer_column}
        load = lambda split, limit: load_questions(  # noqa: E731
            script.dataset, split=split, limit=limit, prompt_template=script.prompt_template, **columns
        )
        train, test = load("train", script.train_questions), load(script.eval_split, script.test_questions)
        peers = (
            {name: str(folder) for name, folder in TINY_PEERS.items()} if script.peers == ["tiny"] else script.peers
        )
        trainer = PSTTrainer(
            peers,
            args,
            train_dataset=train,
            eval_dataset=test,
            peft_config=get_peft_config(model),
            quantization_config=get_quantization_config(model),
        )
        wanted = args.resume_from_checkpoint
        checkpoint = trainer.checkpoint_to_resume(wanted) if wanted else None
    except (ValueError, FileNotFoundError) as error:
        return fail(error)
    progress = show_progress(trainer)

    # ---- measure, train, measure ---------------------------------------------------------------------------------
    pooled = {"samples": script.pooled_samples, "pooled_questions": script.pooled_questions}
    with progress.phase("measuring before training"):
        before = trainer.measure(**pooled)
    try:
        trainer.train(resume_from_checkpoint=checkpoint)
    except KeyboardInterrupt:
        progress.stopped("Interrupted", sys.argv)
        return 130
    except (CheckpointError, NumericFault) as error:
        progress.stopped(str(error), sys.argv)
        return 74 if isinstance(error, CheckpointError) else 70
    if trainer.preemption.stopped:
        progress.stopped("Stopped by SIGTERM, after a checkpoint", sys.argv)
        return 143
    with progress.phase("measuring after training"):
        after = trainer.measure(**pooled)

    # ---- save, report, push --------------------------------------------------------------------------------------
    if trainer.is_world_process_zero():
        trainer.results = results = compare(
            before, after, trainer, script.dataset, asdict(script) | args.to_dict() | {"model": asdict(model)}
        )
        print_table(results)
        write_results(results, args.output_dir)
        trainer.save_state()  # the logs, also those after the last checkpoint: `pst-rl report` shows them
        plot_report(results, trainer.state.log_history, f"{args.output_dir}/report.png")
    if args.push_to_hub:
        trainer.push_to_hub()  # saves them too
    else:
        trainer.save_model()
    if trainer.is_world_process_zero():
        names = ", ".join(results.peers)
        print(f"Results, plot and the trained peers are in {args.output_dir}: results.json, report.png, {names}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
