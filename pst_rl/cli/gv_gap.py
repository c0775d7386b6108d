"""`pst-rl gv-gap`: peers and verifiers in, generator-verifier gaps out."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pst_rl.cli.eval import Questions, quiet

if TYPE_CHECKING:
    from pst_rl.benchmarks.benchmark import Benchmark
    from pst_rl.benchmarks.cache import Cache
    from pst_rl.benchmarks.gv_gap import Samples
    from pst_rl.benchmarks.items import Item
    from pst_rl.benchmarks.model import Decoding, LanguageModel
    from pst_rl.benchmarks.verifiers import Verifier
    from pst_rl.measure.verification import Threshold

JUDGED = ("true_false", "likelihood", "likelihood_sum")
SETTINGS = ("samples", "temperature", "top_p", "seed", "parse_truncated", "threshold", "quantile", "scope")


@dataclass
class GVGap(Questions):
    """Measure the generator-verifier gap: how much better the samples are that a verifier keeps.

    Samples and scores are kept in a cache: after an interruption the same command goes on.
    """

    samples: int = 8
    """Samples per peer and question."""
    verifiers: list[str] = field(default_factory=lambda: ["true_false", "likelihood"])
    """true_false: P(True) / (P(True) + P(False)) of a model that is asked; likelihood: its mean log-probability of a
    response's tokens; likelihood_sum: their sum; a folder of a sequence classifier; or module:function."""
    judges: list[Literal["self", "others"]] = field(default_factory=lambda: ["self", "others"])
    """Whose true_false and likelihood: the peer's own, or the mean of the others'."""
    judge_peers: list[str] | None = None
    """Judge by these models instead of --peers, matched by name: e.g. the peers as they were before training."""
    threshold: float | None = None
    """Keep samples with a score of at least this."""
    quantile: float | None = None
    """Keep samples from this quantile of the scores on; 0.8, about the best fifth, unless --threshold is set."""
    scope: Literal["question", "all"] = "question"
    """Take the quantile among the samples of a question, or of all questions."""
    judge_prompt: str = "judge.v1"
    """Prompt of true_false: a name or a text file with {question} and {response}."""
    compare: str | None = None
    """results.json of an earlier measurement on the same questions: changes with intervals and paired tests."""
    compare_anyway: bool = False
    """Compare, too, what was asked, judged or read in another way; the results say what differed."""
    output_dir: str = "runs/gv-gap"
    """Folder of results.json and the cache."""
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
        from pst_rl.benchmarks.prompts import load_prompt
        from pst_rl.benchmarks.results import check_alike, compare
        from pst_rl.benchmarks.verifiers import load_verifier
        from pst_rl.report.results_file import read_results_file

        quiet()
        self.check()
        threshold = self._threshold()
        prompt = load_prompt(self.judge_prompt, ("question", "response"))
        peers = find_peers(self.peers)
        self.ask_as_in_run(peers)
        benchmark, items, known = self.load_questions()
        judges = find_peers(self.judge_peers) if self.judge_peers else peers
        self._check_judges(peers, judges)
        earlier = read_results_file(self.compare, "gap") if self.compare else None
        decoding = self.decoding(benchmark, greedy=False)
        settings = {name: getattr(self, name) for name in SETTINGS} | {"quantile": threshold.quantile}
        known["judge_prompt"] = {"name": prompt.name, "digest": prompt.digest}
        known["settings"] = settings | {"max_new_tokens": decoding.max_new_tokens}
        if self.compare and earlier:
            check_alike(earlier, known, self.compare, self.compare_anyway)
        if self.dry_run:
            print("\n".join(self.plan(benchmark, items, peers, self.samples)))
            scored = len(items) * len(peers) * self.samples
            print(f"{scored:,} responses to score by each verifier: {', '.join(self.verifiers)}")
            return
        trained = {name: load_verifier(name) for name in self.verifiers if name not in JUDGED}
        folder = Path(self.output_dir)
        take_folder(folder, "gap")
        cache = Cache(Path(self.cache) if self.cache else folder / "cache.jsonl")
        models = self.load_models(peers)
        judging = models if judges == peers else self.load_models(judges)
        known |= self._asked(items, peers, models, judging)
        if self.compare and earlier:
            known["differently"] = check_alike(earlier, known, self.compare, self.compare_anyway)
        panels: dict[str, Any] = {}
        for verifier in self.verifiers:
            panels |= self._panels(verifier, trained, judging, list(peers), prompt)
        drawn = self._draw(models, benchmark, items, decoding, cache)
        scores = {label: self._score(label, panel, drawn, threshold, cache) for label, panel in panels.items()}
        results = known | {
            "scoring": next(iter(benchmark.scorings)),
            "judges": {n: {"model": judges[n], "digest": m.digest} for n, m in judging.items()},
            "scores": scores,
        }
        if self.compare and earlier:
            results["comparison"] = compare(earlier, results, self.compare, self.compare_anyway)
        path = write_measurement(folder, "gap", results)
        self._show(results)
        print(f"Written: {path}")
        print(f"A page of it: {shlex.join(['pst-rl', 'report', str(folder)])}")

    @staticmethod
    def _show(results: Mapping[str, Any]) -> None:
        from pst_rl.benchmarks.results import change_table, different_lines, gap_table
        from pst_rl.progress.words import terminal_width

        width = terminal_width()
        changes = change_table(results.get("comparison", {}), width)
        print("\n".join([*gap_table(results, width), *different_lines(results), *changes]))

    @staticmethod
    def _asked(
        items: Sequence[Item],
        peers: Mapping[str, str],
        models: Mapping[str, LanguageModel],
        judging: Mapping[str, LanguageModel],
    ) -> dict[str, Any]:
        """Who is asked, and how, for the results."""
        shown = [item.shown for item in items]
        return {
            "peers": {name: {"model": peers[name], "digest": model.digest} for name, model in models.items()},
            "asked": {name: model.asking(shown) for name, model in models.items()},
            "judges_asked": {name: model.asking(shown) for name, model in judging.items()},
        }

    def check(self) -> None:
        super().check()
        if self.samples < 2:
            raise ValueError(f"--samples must be at least 2, got {self.samples}: one sample leaves nothing to choose.")
        if not self.verifiers or not self.judges:
            raise ValueError("Name at least one of --verifiers and of --judges.")

    def _draw(
        self,
        models: Mapping[str, LanguageModel],
        benchmark: Benchmark,
        items: Sequence[Item],
        decoding: Decoding,
        cache: Cache,
    ) -> dict[str, Samples]:
        """The samples of each peer, judged by the first of the benchmark's scorings."""
        from pst_rl.benchmarks.gv_gap import draw_samples

        scoring = next(iter(benchmark.scorings.values()))
        return {
            name: draw_samples(
                model,
                items,
                scoring,
                decoding,
                cache,
                samples=self.samples,
                batch_size=self.batch_size,
                parse_truncated=self.parse_truncated,
            )
            for name, model in models.items()
        }

    def _score(
        self,
        label: str,
        panels: Mapping[str, Sequence[Verifier]],
        drawn: Mapping[str, Samples],
        threshold: Threshold,
        cache: Cache,
    ) -> dict[str, Any]:
        """The gaps of each peer, by its panel of verifiers."""
        from pst_rl.benchmarks.gv_gap import gap_scores, score_samples

        found = {}
        for name, panel in panels.items():
            scores = score_samples(panel, drawn[name], cache, self.batch_size, f"{label} on {name}")
            found[name] = gap_scores(drawn[name], scores, threshold)
        return found

    def _threshold(self) -> Threshold:
        from pst_rl.measure.verification import Threshold

        quantile = 0.8 if self.quantile is None and self.threshold is None else self.quantile
        return Threshold(self.threshold, quantile, self.scope)

    def _check_judges(self, peers: Mapping[str, str], judges: Mapping[str, str]) -> None:
        if not set(self.verifiers) & set(JUDGED):
            return
        if "self" in self.judges and (missing := sorted(set(peers) - set(judges))):
            raise ValueError(
                f"No judge is called {missing[0]!r}; there are {', '.join(judges)}. Judges are matched by name: "
                "rename a folder, or use --judges others."
            )
        if "others" in self.judges and any(set(judges) <= {name} for name in peers):
            raise ValueError("With one peer there are no others to judge: use --judges self, or name --judge-peers.")

    def _panels(
        self,
        verifier: str,
        trained: Mapping[str, Verifier],
        judging: Mapping[str, LanguageModel],
        peers: Sequence[str],
        prompt: Any,
    ) -> dict[str, dict[str, list[Verifier]]]:
        """For each row of the results, and each peer, the verifiers whose mean score counts."""
        from pst_rl.benchmarks.verifiers import Likelihood, TrueFalse

        if verifier in trained:
            return {verifier: {name: [trained[verifier]] for name in peers}}

        def made(judge: LanguageModel) -> Verifier:
            return (
                TrueFalse(judge, prompt) if verifier == "true_false" else Likelihood(judge, verifier == "likelihood")
            )

        own = {name: made(judge) for name, judge in judging.items()}
        panels = {
            "self": {name: [own[name]] for name in peers if name in own},
            "others": {name: [v for judge, v in own.items() if judge != name] for name in peers},
        }
        return {f"{verifier}/{judge}": panels[judge] for judge in self.judges}
