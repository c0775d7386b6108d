"""Three models train each other on math questions without labels, and are measured before and after.

    accelerate launch examples/pst_math.py                                  # embedded tiny peers, CPU, minutes
    accelerate launch examples/pst_math.py --objective aggregate_sft        # the same, learning from the aggregate
    accelerate launch examples/pst_math.py --preset qlora                  # Gemma-2-2B, Llama-3.2-1B, Qwen2.5-1.5B
    accelerate launch examples/pst_math.py --preset paper --peers tiny      # the published protocol on the tiny peers
    accelerate launch examples/pst_math.py --peers A B C --dataset my.jsonl --output-dir runs/mine

This is `pst-rl train` as a script, which `accelerate launch` can start: the same options, results and exit statuses
(docs/commands.md). A script of yours starts from `examples/first_steps.py`.
"""

import sys

from pst_rl.cli import main as pst_rl


def main() -> int:
    return pst_rl.main(["train", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
