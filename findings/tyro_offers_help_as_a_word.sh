#!/usr/bin/env bash
# tyro's bash completion offers the second line of an option's help as a word to complete with.
#
# Versions: tyro 1.0.17. Seen on 2026-11-30, bash.
# Behaviour: the help of an option with a docstring of two lines is kept with its line break in the completion script. The script writes
#   "option<TAB>help" lines for bash and cuts each at the tab: what follows the break is a line of its own, so it is offered beside the option.
#   One line of help is right. The remedy is to print the script with the breaks of its specification replaced by spaces.
# Output seen:
#   two lines of help: --day | when nothing is given. (default: None)
#   one line of help:  --day
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet tyro==1.0.17
for lines in two one; do
  break=$([ $lines = two ] && echo $'\n    ' || echo ' ')
  cat > "$work/$lines.py" <<END
from dataclasses import dataclass
import tyro

@dataclass
class Ask:
    day: str | None = None
    """A day, or today${break}when nothing is given."""

def ask(options: tyro.conf.OmitArgPrefixes[Ask]):
    print(options)

tyro.extras.subcommand_cli_from_dict({"ask": ask, "tell": ask}, prog="say")
END
  "$work/venv/bin/python" "$work/$lines.py" --tyro-print-completion bash > "$work/$lines.sh"
done
cat > "$work/offer.sh" <<'END'
source "$1"
COMP_WORDS=(say ask --da) COMP_CWORD=2 COMP_LINE="say ask --da" COMP_POINT=12
$(complete -p say | sed -E 's/.*-F ([^ ]+) .*/\1/') say --da ask
(IFS=; printf '%s\n' "${COMPREPLY[@]}") | sed 's/\t.*//; s/ *$//' | paste -sd'|' | sed 's/|/ | /g'
END
two=$(PATH="$work/venv/bin:$PATH" bash "$work/offer.sh" "$work/two.sh")
one=$(PATH="$work/venv/bin:$PATH" bash "$work/offer.sh" "$work/one.sh")
echo "two lines of help: $two"
echo "one line of help:  $one"
[[ $one != *when* && $two == *when* ]]
