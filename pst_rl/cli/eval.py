"""`pst-rl eval`: peers in, scores on a benchmark out."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from pst_rl.answers.reading import Style
from pst_rl.files import json_digest, write_atomically
from pst_rl.progress.phases import phase

if TYPE_CHECKING:
    from pst_rl.benchmarks.benchmark import Benchmark
    from pst_rl.benchmarks.items import Item
    from pst_rl.benchmarks.model import Completion, Decoding, LanguageModel
    from pst_rl.benchmarks.scores import Responses
    from pst_rl.peers.asked import Asked


@dataclass
class Questions:
    """What is asked: shared by `pst-rl eval` and `pst-rl gv-gap`."""

    benchmark: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="BENCHMARK")]
    """tiny, multiarith, simuleq, math500, gsm8k, commonsenseqa, mmlu, truthfulqa; or a file or Hub id with questions
    and answers."""
    peers: list[str] = field(default_factory=lambda: ["tiny"])
    """Hub ids, folders (also of LoRA adapters) or GGUF files; a folder with a folder for each peer; or `tiny`."""
    data: str | None = None
    """A file with the benchmark's columns, or a Hub id, instead of the benchmark's own."""
    split: str | None = None
    """By default the benchmark's; of a file all rows."""
    limit: int | None = None
    """At most so many questions, drawn by --data-seed."""
    data_seed: int = 0
    """Of the questions drawn."""
    question_column: str | None = None
    """Column with the question, if it cannot be guessed."""
    answer_column: str | None = None
    """Column with the gold answer, if it cannot be guessed."""
    prompt: Annotated[str | None, tyro.conf.arg(name="prompt-template")] = None
    """Name of a prompt of the package, a text file, or a text with {question}; by default as in a trained peer's run,
    else the benchmark's. `prompt` means the same."""
    style: Style | None = None
    """Where an answer stands in a response; by default as in a trained peer's run, else the benchmark's styles."""

    max_new_tokens: int | None = None
    """Room for a response; by default as in a trained peer's run, else the benchmark's."""
    temperature: float = 1.0
    """Of the samples."""
    top_p: float = 1.0
    """Of the samples."""
    seed: int = 0
    """Of the samples."""
    parse_truncated: bool = False
    """Read answers in responses that were cut off, too."""
    batch_size: int = 16
    """Rows answered side by side."""
    dtype: str | None = None
    """Weights' dtype, such as bfloat16; by default float32 on a CPU, else as they are stored."""
    load_in_4bit: bool = False
    """Load the weights in 4 bits (NF4)."""
    autocast: Literal["no", "bfloat16", "float16"] | None = None
    """Compute in this dtype, as training does with bf16 or fp16; by default as a trained peer's run did, else no."""
    chat_template_kwargs: dict[str, Any] | None = None
    """For the chat template, as JSON: '{"enable_thinking": false}'; by default as a trained peer's run did."""
    template_date: str | None = None
    """Day, as YYYY-MM-DD, that a chat template writes as today's; by default that of a trained peer's run, else a
    fixed one."""
    base_template: str | None = None
    """Text around {prompt} for a model without a chat template; by default as a trained peer's run did."""
    stop_strings: list[str] | None = None
    """A response ends before the first of these; by default as in a trained peer's run, else strings that begin a
    next question, for a model without a chat template."""
    dry_run: bool = False
    """Show the first prompt of each peer and count what would be asked; load no weights."""

    resume_flag: ClassVar[str] = ""  # the same command goes on from its cache

    def check(self) -> None:
        """Refuses numbers that cannot work, before anything is loaded."""
        for name, low in (("batch_size", 1), ("max_new_tokens", 1), ("limit", 1)):
            value = getattr(self, name)
            if value is not None and value < low:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {low}, got {value}.")
        if self.temperature <= 0 or not 0 < self.top_p <= 1:
            raise ValueError("--temperature must be above 0 and --top-p above 0 and at most 1.")
        if self.base_template is not None and "{prompt}" not in self.base_template:
            raise ValueError(f"--base-template must contain {{prompt}}, got {self.base_template!r}.")
        from pst_rl.peers.reader import check_template_words
        from pst_rl.peers.template_date import check_date

        check_template_words(self.chat_template_kwargs)
        if self.template_date is not None:
            check_date(self.template_date)

    def ask_as_in_run(self, peers: Mapping[str, str]) -> None:
        """Takes the prompt, the style of answers and the room of the run that all peers come from, and says so.

        What an option says otherwise stays, and what is the benchmark's own anyway is not spoken of.
        """
        from pst_rl.benchmarks.items import NEEDS, find_benchmark
        from pst_rl.benchmarks.prompts import load_prompt
        from pst_rl.peers.asked import alike, read_asked

        benchmark, records = find_benchmark(self.benchmark), [read_asked(path) for path in peers.values()]
        usual: dict[str, Any] = {
            "prompt": load_prompt(benchmark.prompt, NEEDS[benchmark.form]).text,
            "style": [scoring.style for scoring in benchmark.scorings.values()],
            "max_new_tokens": benchmark.max_new_tokens,
        }
        recorded = {"prompt": "prompt_template", "style": "answer_style", "max_new_tokens": "max_completion_length"}
        said = []
        for option, name in recorded.items():
            value = alike(records, name)
            if getattr(self, option) is not None or value in (None, "auto", usual[option], *usual["style"]):
                continue
            if option == "prompt" and any(f"{{{placeholder}}}" not in value for placeholder in NEEDS[benchmark.form]):
                continue  # the benchmark shows more than a question
            setattr(self, option, value)
            flag = {"prompt": "prompt_template"}.get(option, option)
            said.append(f"--{flag.replace('_', '-')} {value!r}")
        if said:
            print(f"Asked as in the run of these peers: {', '.join(said)}.")

    def load_questions(self) -> tuple[Benchmark, list[Item], dict[str, Any]]:
        """The benchmark, its items, and what a result is known by."""
        from pst_rl.benchmarks.items import NEEDS, find_benchmark, load_items, with_style
        from pst_rl.benchmarks.prompts import load_prompt

        benchmark = with_style(find_benchmark(self.benchmark), self.style)
        prompt = load_prompt(self.prompt or benchmark.prompt, NEEDS[benchmark.form])
        names = ("data", "split", "question_column", "answer_column", "limit")
        items = load_items(
            benchmark, prompt=prompt, seed=self.data_seed, **{name: getattr(self, name) for name in names}
        )
        known = {
            "benchmark": benchmark.name,
            "data": self.data or benchmark.source,
            "split": self.split,
            "prompt": {"name": prompt.name, "digest": prompt.digest},
            "scorings": {name: asdict(scoring) for name, scoring in benchmark.scorings.items()},
            "questions": [_digest(item) for item in items],
        }
        return benchmark, items, known

    def decoding(self, benchmark: Benchmark, greedy: bool) -> Decoding:
        from pst_rl.benchmarks.model import Decoding

        room = self.max_new_tokens or benchmark.max_new_tokens
        return Decoding(room) if greedy else Decoding(room, self.temperature, self.top_p, self.seed)

    def load_models(self, peers: Mapping[str, str]) -> dict[str, LanguageModel]:
        """The models by name."""
        from pst_rl.benchmarks.model import LanguageModel

        found = {}
        with phase("loading", len(peers), "models") as loading:
            for name, path in peers.items():
                loading.at(name)
                found[name] = LanguageModel.load(path, name, self.dtype, self.load_in_4bit, self.asked(name, path))
                loading.advance()
        return found

    def asked(self, name: str, path: str) -> Asked:
        """How a model is asked: as its run asked it, if it has a record, but for what the options say."""
        from pst_rl.peers.asked import Asked, adopted, read_asked
        from pst_rl.progress.words import folded, terminal_width

        recorded = read_asked(path)
        fields = ("dtype", "autocast", "chat_template_kwargs", "template_date", "base_template", "stop_strings")
        chosen = (recorded or Asked()).with_own({name: getattr(self, name) for name in fields})
        if recorded is not None:
            if taken := adopted(recorded, chosen, [field for field in fields if getattr(self, field) is not None]):
                print(folded(f"{name} is asked as in its run: {', '.join(taken)}.", terminal_width()))
            if recorded.load_in_4bit and not self.load_in_4bit:
                print(f"{name} was measured with weights in 4 bits there: --load-in-4bit does so here.")
        return chosen

    def plan(self, benchmark: Benchmark, items: Sequence[Item], peers: dict[str, str], each: int) -> list[str]:
        """What a dry run prints, for `each` responses to a question."""
        from pst_rl.cli.prompt_preview import read_prompts

        asked = [[{"role": "user", "content": item.shown}] for item in items]
        lines = []
        for name, path in peers.items():
            how = self.asked(name, path)
            seen = read_prompts(path, asked, how.base_template, how.template_date, **how.chat_template_kwargs)
            lines += [f"---- {name}: {path}", str(seen), ""]
        room, total = self.decoding(benchmark, True).max_new_tokens, len(items) * each * len(peers)
        lines += [f"{len(items)} questions x {each} responses x {len(peers)} peers, up to {room} tokens each"]
        return [*lines, f"at most {total * room:,} tokens written, fewer where the cache has them"]


@dataclass
class Eval(Questions):
    """Measure models on a benchmark: each alone, their vote, and in turn.

    Responses are kept in a cache, by model weights, prompt and settings: after an interruption the same command goes
    on, and what was asked once is not asked again.
    """

    samples: int = 0
    """Samples per peer and question, for mean@k, pass@k and majority@k; 0 for greedy responses only."""
    k: list[int] = field(default_factory=list)
    """The k of pass@k and majority@k; by default the number of samples."""
    collaborative: bool = True
    """Also let the peers answer in turn, each reading those before it; the last one speaks for all."""
    peer_template: str | None = None
    """How a response is shown to later peers, with {text}; by default the benchmark's."""
    compare: str | None = None
    """results.json of an earlier evaluation of the same questions: gains with intervals and paired tests."""
    compare_anyway: bool = False
    """Compare, too, what was asked or read in another way; the results say what differed."""
    output_dir: str = "runs/eval"
    """Folder of results.json, responses.jsonl and the cache."""
    cache: str | None = None
    """The cache; by default cache.jsonl in the output folder."""

    def run(self) -> None:
        """Does it all.

        Raises:
            FileNotFoundError, ValueError: For anything that does not fit, before a model is loaded where it can be.
        """
        from pst_rl.benchmarks.cache import Cache
        from pst_rl.benchmarks.folder import take_folder, write_measurement
        from pst_rl.benchmarks.peer_set import find_peers
        from pst_rl.benchmarks.results import check_alike, compare, summarise, table
        from pst_rl.benchmarks.scores import endings, score
        from pst_rl.progress.words import terminal_width
        from pst_rl.report.results_file import read_results_file

        quiet()
        self.check()
        peers = find_peers(self.peers)
        self.ask_as_in_run(peers)
        benchmark, items, known = self.load_questions()
        earlier = read_results_file(self.compare, "evaluation") if self.compare else None
        together = self.collaborative and len(peers) > 1
        known |= {"settings": self._settings(benchmark, together)}
        if self.compare and earlier:
            check_alike(earlier, known, self.compare, self.compare_anyway)
        if self.dry_run:
            each = 1 + self.samples + together
            print("\n".join(self.plan(benchmark, items, peers, each)))
            return
        folder = Path(self.output_dir)
        take_folder(folder, "evaluation")
        cache = Cache(Path(self.cache) if self.cache else folder / "cache.jsonl")
        models = list(self.load_models(peers).values())
        known |= {
            "peers": {m.name: {"model": peers[m.name], "digest": m.digest} for m in models},
            "asked": {m.name: m.asking([item.shown for item in items]) for m in models},
        }
        if self.compare and earlier:
            known["differently"] = check_alike(earlier, known, self.compare, self.compare_anyway)
        responses = self._ask(benchmark, items, models, cache)
        results = known | {
            **endings(benchmark, responses, self.parse_truncated),
            "scores": summarise(score(benchmark, items, responses, self._ks(), self.parse_truncated)),
        }
        if self.compare and earlier:
            results["comparison"] = compare(earlier, results, self.compare, self.compare_anyway)
        path = write_measurement(folder, "evaluation", results, ("responses.jsonl",))
        lines = (json.dumps(row) + "\n" for row in _rows(items, responses))
        write_atomically(folder / "responses.jsonl", "".join(lines))
        print("\n".join(table(results, terminal_width())))
        print(f"Written: {path}, {folder / 'responses.jsonl'}")
        print(f"A page of it: {shlex.join(['pst-rl', 'report', str(folder)])}")

    def check(self) -> None:
        super().check()
        if self.samples < 0 or any(not 1 <= k <= self.samples for k in self.k):
            raise ValueError(f"--k must lie between 1 and --samples ({self.samples}), got {self.k}.")
        if self.peer_template is not None and "{text}" not in self.peer_template:
            raise ValueError(f"--peer-template must contain {{text}}, got {self.peer_template!r}.")

    def _settings(self, benchmark: Benchmark, together: bool) -> dict[str, Any]:
        """How it is asked and read, for the results."""
        names = ("samples", "temperature", "top_p", "seed", "parse_truncated")
        return {name: getattr(self, name) for name in names} | {
            "max_new_tokens": self.decoding(benchmark, True).max_new_tokens,
            "peer_template": (self.peer_template or benchmark.peer_template) if together else None,
        }

    def _ks(self) -> list[int]:
        return self.k or ([self.samples] if self.samples else [])

    def _ask(self, benchmark: Benchmark, items: Sequence[Item], models, cache) -> Responses:
        from pst_rl.benchmarks.ask import ask, ask_in_turn
        from pst_rl.benchmarks.scores import Responses

        greedy, sampling = self.decoding(benchmark, True), self.decoding(benchmark, False)
        shown = [item.shown for item in items]
        together = self.collaborative and len(models) > 1
        size = self.batch_size
        alone, samples = {}, {}
        for model in models:
            prompts = [model.fit(text, (), "", model.window - greedy.max_new_tokens) for text in shown]
            said = ask(model, prompts, greedy, cache, batch_size=size, doing="greedy")
            alone[model.name] = [rows[0] for rows in said]
            if self.samples:
                doing = f"{self.samples} samples"
                own = ask(model, prompts, sampling, cache, copies=self.samples, batch_size=size, doing=doing)
                samples[model.name] = own
        in_turn = []
        if together:
            template = self.peer_template or benchmark.peer_template
            in_turn = ask_in_turn(models, shown, greedy, cache, peer_template=template, batch_size=size)
        names = [model.name for model in models]
        return Responses(alone, samples, dict(zip(names, in_turn, strict=False)))


def quiet() -> None:
    """No bars for each small file that is read."""
    from datasets.utils.logging import disable_progress_bar as hide_datasets_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    hide_datasets_bars()


def _digest(item: Item) -> str:
    """What a question is known by in results: its text and its gold."""
    return json_digest([item.question, item.gold], 16)


def _rows(items: Sequence[Item], responses: Responses) -> Iterator[dict[str, Any]]:
    """One row for each question, with all that was said, and which of it ended by itself."""
    for q, item in enumerate(items):
        said: dict[str, Any] = {
            "responses": {name: rows[q] for name, rows in responses.greedy.items()},
            "samples": {name: rows[q] for name, rows in responses.sampled.items()},
            "collaborative": {name: rows[q] for name, rows in responses.collaborative.items()},
        }
        yield {
            "question": item.question,
            "answer": item.gold,
            **{kind: _each(own, lambda r: r.text) for kind, own in said.items()},
            "finished": {kind: _each(own, lambda r: r.finished) for kind, own in said.items()},
        }


def _each(own: Mapping[str, Any], of: Callable[[Completion], Any]) -> dict[str, Any]:
    """Of the one response of each peer, or of each of its samples."""
    return {name: [of(r) for r in made] if isinstance(made, list) else of(made) for name, made in own.items()}
