"""`python -m pst_rl.cli` is `pst-rl`."""

import sys

from pst_rl.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
