"""Generated strings through extraction, equivalence and scoring: what raises, what is slow, what contradicts itself.

    python scripts/fuzz_answers.py                          # 100,000 strings; writes docs/results/fuzz.md
    python scripts/fuzz_answers.py --cover 300              # 5 minutes, guided by coverage; adds to the corpus

Times are CPU seconds of one thread, which is not the main one.
Strings are made of what answers are made of, or are strings of the corpus (`tests/corpus/answers.json`) cut, joined,
repeated and wrapped. The guided run needs `pip install atheris` (libFuzzer for Python; Linux, Python 3.11).
"""

import argparse
import importlib
import json
import pkgutil
import platform
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from pst_rl.answers import canonical_key, equivalent, extract_answers, find_answer, is_correct

ROOT = Path(__file__).resolve().parents[1]
CORPUS = ROOT / "tests" / "corpus" / "answers.json"
REPORT = ROOT / "docs" / "results" / "fuzz.md"
STYLES = ("auto", "boxed", "hash", "phrase", "number", "choice", "text")
GOLDS = ("18", "7.03", "-2,1", r"x \le 5", r"\sqrt{2}", r"(-\infty, 5]", r"\{1, 2\}", "y = 2x + 3")
ATOMS = [
    *"0 1 7 12 3.5 1,234 .5 - + * ** / ^ _ ( ) [ ] { } = x y e i ! | < > % & $ , ; : . ' A (B) B. C) ~ # ` ?".split(),
    *r"\{ \} \frac \dfrac \frac{1}{2} \frac12 \sqrt \sqrt[3] \boxed{ \boxed \fbox{ \pi \sin \sin^2 \log_2 \ln".split(),
    *r"\text{ \mathrm{ \left \right \( \) \[ \] \\ \, \! \quad \le \ge \ne \cup \cap \infty \pm \in \cdot".split(),
    *r"\begin{pmatrix} \end{pmatrix} \begin{array} \end{array} 10^ e999 1e-999 9**9**9**9 9^{9^{9^9}} cm km/h".split(),
    *r"\mathbb{R} \setminus \emptyset \approx ^\circ \% \$ 0. 00 999999 1/0 0/0 --1 +- \log \times".split(),
    *[
        "#### ",
        "The answer is ",
        "Answer: ",
        "answer",
        " and ",
        " or ",
        "\n",
        "\n\n",
        "   ",
        "because",
        "true",
        "north",
    ],
    *["</s>", "<|im_end|>", "about ", "x = ", "Fee: ", "dollars", "million", "half", "\t", "\r\n", "A dog", "I think"],
    *"\x00 \u202e \u200b \u2028 ½ ² π １ ٣ é 字 🙂 \ud800 \udfff − × √ ∞ ≤ ． ａ".split(" "),
]


def examine(text: str, other: str = "18") -> None:
    """Everything the library does with a string, and what must hold whatever it is.

    Raises:
        AssertionError: Two results contradict each other.
    """
    key = canonical_key(text)
    assert isinstance(key, str) and key == canonical_key(text)
    assert equivalent(text, text) and equivalent(text, other) == equivalent(other, text)
    for style in STYLES:
        answer = find_answer(text, style)
        if answer is not None:
            assert answer.key and answer.key == canonical_key(answer.text) and 0 <= answer.start <= len(text)
            assert isinstance(is_correct(answer, "18"), bool)
    assert all(isinstance(part, str) for part in extract_answers(text))
    for gold in GOLDS:
        assert isinstance(is_correct(text, gold), bool)
    is_correct(text, ["1", "2"], metric="set")
    is_correct("18", text)


class Strings:
    """A stream of strings from a seed."""

    def __init__(self, seed: int, corpus: list[str]):
        self.rng = random.Random(seed)
        self.corpus = corpus or ["18"]

    def __next__(self) -> str:
        rng = self.rng
        kind = rng.random()
        if kind < 0.45:
            text = "".join(rng.choice(ATOMS) for _ in range(rng.randint(0, 40)))
        elif kind < 0.60:
            text = "".join(chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x110000)))) for _ in range(60))
        elif kind < 0.65:
            text = (rng.choice(ATOMS) + rng.choice(ATOMS)) * rng.choice((5, 50, 400, 20_000))
        else:
            text = rng.choice(self.corpus)
            for _ in range(rng.randint(1, 4)):
                text = self._changed(text)
        if rng.random() < 0.4:
            opening, closing = rng.choice(
                ((r"\boxed{", "}"), ("#### ", ""), ("The answer is ", "."), ("$", "$"), ("(", ")"))
            )
            text = f"{opening}{text}{closing}"
        return text

    def _changed(self, text: str) -> str:
        rng, at = self.rng, self.rng.randint(0, len(text))
        return rng.choice(
            (
                text[:at] + rng.choice(ATOMS) + text[at:],
                text[:at] + text[at + rng.randint(1, 5) :],
                text[:at] + rng.choice(self.corpus)[:at],
                text[:at] + text[: rng.randint(0, at)] * rng.choice((1, 3, 30)) + text[at:],
                text[:at] + chr(rng.randrange(0x110000)) + text[at:],
            )
        )


@dataclass(frozen=True)
class Result:
    """What a run found. Times in milliseconds for one string, memory in MiB.

    `median`, `p99` and `slowest` are of extraction and equivalence, those with `every` of all that `examine` does.
    """

    strings: int
    seed: int
    exceptions: int
    first_exception: str
    median: float
    p99: float
    slowest: float
    every_median: float
    every_p99: float
    every_slowest: float
    slowest_string: str
    longest: int
    memory_grown: int
    seconds: float
    machine: str


def run(count: int, seed: int, corpus: list[str]) -> Result:
    """Examines `count` strings outside the main thread."""
    found: list[Result] = []
    thread = threading.Thread(target=lambda: found.append(_run(count, seed, corpus)))
    thread.start()
    thread.join()
    return found[0]


def _run(count: int, seed: int, corpus: list[str]) -> Result:
    strings, times, every, faults, previous, longest = Strings(seed, corpus), [], [], [], "18", 0
    slowest = (0.0, "")
    is_correct("x < 5", GOLDS[3])  # the first comparison with math-verify imports sympy
    memory, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    for _ in range(count):
        text = next(strings)
        longest = max(longest, len(text))
        try:
            started = time.thread_time()
            find_answer(text), equivalent(text, previous)
            times.append(time.thread_time() - started)
            examine(text, previous)
        except Exception as error:  # noqa: BLE001 - what is looked for
            faults.append(f"{type(error).__name__}: {error} on {text[:200]!r}")
        every.append(time.thread_time() - started)
        slowest = max(slowest, (every[-1], text))
        previous = text
    times.sort()
    every.sort()
    return Result(
        strings=count,
        seed=seed,
        exceptions=len(faults),
        first_exception=faults[0] if faults else "",
        median=1000 * times[len(times) // 2],
        p99=1000 * times[int(0.99 * len(times))],
        slowest=1000 * times[-1],
        every_median=1000 * every[count // 2],
        every_p99=1000 * every[int(0.99 * count)],
        every_slowest=1000 * every[-1],
        slowest_string=f"{slowest[1][:60]!r}, {len(slowest[1]):,} characters",
        longest=longest,
        memory_grown=(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) // 1024,
        seconds=time.perf_counter() - begin,
        machine=f"{platform.machine()}, Python {platform.python_version()}",
    )


def markdown(result: Result, corpus: int) -> str:
    """The page of results."""
    times = {
        "extraction and equivalence": (result.median, result.p99, result.slowest),
        "everything": (result.every_median, result.every_p99, result.every_slowest),
    }
    slowest = result.slowest_string.replace("|", "/").replace("`", " ")
    lines = [
        "# Hostile strings through the answers code",
        "",
        "Written by `python scripts/fuzz_answers.py`; do not edit. What it means: [hostile text](../trust-text.md).",
        "",
        f"{result.strings:,} strings (seed {result.seed}), the longest of {result.longest:,} characters: "
        f"**{result.exceptions} exceptions**. {result.first_exception}",
        "",
        "| milliseconds for one string | median | 99th percentile | slowest |",
        "| --- | --- | --- | --- |",
        *(f"| {name} | {a:.2f} | {b:.1f} | {c:.0f} |" for name, (a, b, c) in times.items()),
        "",
        "CPU time of one thread, not the main one. Extraction and equivalence: the answer, and whether the string and",
        "the one before it are equivalent. Everything: the answer in six styles, key and parts, equivalence both",
        "ways, and whether it is right by nine golds and by both metrics; some 30 calls. The slowest string in that:",
        f"`{slowest}`. Peak memory grew by {result.memory_grown} MiB.",
        f"{result.machine}, in {result.seconds:.0f} s on two cores shared with other work.",
        f"The stored corpus has {corpus} strings.",
        "",
    ]
    return "\n".join(lines)


# ---- guided by coverage ----


def cover(seconds: int, corpus: list[str]) -> list[str]:
    """The corpus, and strings that reached new branches; what fails is printed by libFuzzer and ends the run."""
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder, "kept")
        kept.mkdir()
        for i, text in enumerate(corpus):
            (kept / str(i)).write_bytes(text.encode("utf-8", "surrogatepass"))
        limits = [f"-max_total_time={seconds}", "-max_len=400", "-timeout=2", "-rss_limit_mb=1500"]
        subprocess.run([sys.executable, __file__, "--child", *limits, str(kept)], check=True, cwd=folder)
        return sorted({_text(path.read_bytes()) for path in kept.iterdir()})


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def child(arguments: list[str]) -> None:
    """libFuzzer's loop, in a process of its own, which it ends."""
    try:
        import atheris
    except ImportError:
        raise SystemExit("error: the guided run needs atheris: pip install atheris") from None

    from pst_rl import answers

    for found in pkgutil.iter_modules(answers.__path__):
        module = importlib.import_module(f"{answers.__name__}.{found.name}")
        ours = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
        for value in [*ours, *(method for kind in ours if isinstance(kind, type) for method in vars(kind).values())]:
            if hasattr(value, "__code__"):
                atheris.instrument_func(value)
    atheris.Setup([sys.argv[0], *arguments], lambda data: examine(_text(data)))
    atheris.Fuzz()


def main() -> int:
    """Entry point; see the module's docstring."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2:])
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--strings", type=int, default=100_000, help="how many strings")
    parser.add_argument("--seed", type=int, default=0, help="of the strings")
    parser.add_argument("--cover", type=int, default=0, metavar="SECONDS", help="a guided run instead")
    parser.add_argument("--corpus", type=Path, default=CORPUS, help="strings that were worth keeping (JSON)")
    parser.add_argument("--report", type=Path, default=REPORT, help="page of results")
    parser.add_argument("--json", type=Path, help="file for the figures")
    args = parser.parse_args()
    if args.strings < 1 or args.cover < 0:
        parser.error("--strings must be at least 1, and --cover not negative")
    corpus = json.loads(args.corpus.read_text()) if args.corpus.is_file() else []
    if args.cover:
        corpus = cover(args.cover, corpus)
        args.corpus.write_text(json.dumps(corpus, indent=0) + "\n")
        print(f"{len(corpus)} strings in {args.corpus}")
        return 0
    result = run(args.strings, args.seed, corpus)
    args.report.write_text(markdown(result, len(corpus)))
    if args.json:
        args.json.write_text(json.dumps(asdict(result), indent=2))
    print(args.report.read_text())
    return int(result.exceptions > 0 or result.every_slowest > 1000)


if __name__ == "__main__":
    sys.exit(main())
