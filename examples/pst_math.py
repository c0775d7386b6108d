"""Three models train each other on math questions without labels, and are measured before and after.

    accelerate launch examples/pst_math.py                                  # embedded tiny peers, CPU, minutes
    accelerate launch examples/pst_math.py --objective aggregate_sft        # the same, learning from the aggregate
    accelerate launch examples/pst_math.py --preset qlora                  # Gemma-2-2B, Llama-3.2-1B, Qwen2.5-1.5B
    accelerate launch examples/pst_math.py --preset paper --peers tiny      # the published protocol on the tiny peers
    accelerate launch examples/pst_math.py --peers A B C --dataset my.jsonl --output-dir runs/mine

This is `pst-rl train` in its own lines, to start a script of yours from. All options of `PSTConfig` (a `GRPOConfig`)
and of TRL's `ModelConfig` are flags; `--config FILE` (YAML or JSON) sets them from a file, and flags override it. Exit
status: 0 done, 2 bad input, 70 numeric fault, 74 no checkpoint could be written, 130 Ctrl-C, 143 SIGTERM; after the
last four, the command to go on with is printed.
"""

import sys

from pst_rl.cli.parse import check_resume, fail, parse
from pst_rl.cli.presets import PRESETS, TINY_STYLE
from pst_rl.cli.train import TrainOptions as ScriptArguments
from pst_rl.loop.lock import RunLock


def main() -> int:
    try:
        arguments = parse(ScriptArguments, PRESETS, TINY_STYLE)
    except (ValueError, OSError) as error:
        return fail(error)
    script, args, model = arguments.script, arguments.config, arguments.model

    # The heavy imports come after parsing, so that typos answer sooner.
    from trl import get_peft_config, get_quantization_config

    from pst_rl import PSTTrainer
    from pst_rl.cli.progress import show_progress
    from pst_rl.cli.training import Ending, load_splits, named_peers, save, settings
    from pst_rl.report.compare import compare

    # ---- questions and peers -------------------------------------------------------------------------------------
    try:
        check_resume(args)
        train, test = load_splits(script)
        RunLock(args.output_dir, active=args.should_save).hold()  # one run in a folder, from here to the end
        trainer = PSTTrainer(
            named_peers(script.peers),
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

    # ---- measure, train, measure ---------------------------------------------------------------------------------
    pooled = {"samples": script.pooled_samples, "pooled_questions": script.pooled_questions}
    progress = show_progress(trainer)
    with Ending(progress, ["accelerate", "launch", *sys.argv]) as ending:  # Ctrl-C, SIGTERM, a fault, a full disk
        with progress.phase("measuring before training"):
            before = trainer.measure(**pooled)
        trainer.train(resume_from_checkpoint=checkpoint)
        if not trainer.preemption.stopped:
            with progress.phase("measuring after training"):
                after = trainer.measure(**pooled)
    if ending.status:
        return ending.status

    # ---- save, report, push --------------------------------------------------------------------------------------
    save(trainer, compare(before, after, trainer, script.dataset, settings(arguments)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
