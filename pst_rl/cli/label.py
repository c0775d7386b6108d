"""`pst-rl label`: claims in, labels out."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from pst_rl.files import json_digest, write_atomically
from pst_rl.progress.phases import phase

if TYPE_CHECKING:
    from pst_rl.coherence.claims import Claims
    from pst_rl.coherence.labelling import Labelling
    from pst_rl.coherence.language_model import LanguageModelPredictor

# Options that may differ between a run and its resumption: they change neither the search nor its labels. Gold that is
# given away is part of the claims.
_FREE = ("answer_metric", "resume", "formats", "push_to_hub", "private", "output_dir", "seeds", "dry_run")
SETTINGS = "label.json"


@dataclass
class Label:
    """Label a data set with no labels: find the labels that a language model finds most coherent.

    Everything lies in the output folder, and is written as the search goes on: after an interruption, the same command
    with --resume goes on and ends with the same labels.
    """

    data: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DATA")]
    """Hub id (owner/name, owner/name:config), or a .jsonl, .json, .csv or .parquet file."""
    model: str
    """Hub id, folder or GGUF file of a causal language model, or a LoRA adapter."""
    method: Literal["icm", "icm_released_code", "gibbs", "bootstrap", "debate", "folds", "zero_shot"] = "icm"
    """How labels are searched; docs/coherence.md describes each. `zero_shot` reads each claim alone."""
    method_options: str = "{}"
    """Options of the search, as JSON: '{"alpha": 30, "steps": 500}'."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """One search for each; the most coherent labels are written, with the agreement of all."""
    output_dir: str = "runs/labels"
    """Folder of the search's state, the labels and the card."""
    formats: Annotated[list[Literal["jsonl", "parquet", "sft", "preference"]], tyro.conf.arg(name="format")] = field(
        default_factory=lambda: ["jsonl", "parquet", "sft"]
    )
    """What to write: labelled rows, a data set for SFT, pairs for a reward model. JSON lines are always written."""
    resume: bool = False
    """Go on with the run in the output folder."""
    push_to_hub: str | None = None
    """Data set repository (owner/name) to push the files and the card to."""
    private: bool | None = None
    """Whether a repository that is created is private."""
    dry_run: bool = False
    """Show the first prompt and count claims and tokens; load no weights, write nothing."""

    # ---- claims ----
    form: Literal["claims", "responses", "comparisons"] = "claims"
    """What a row is: a claim; a question with models' responses; a question with two responses to compare."""
    split: str | None = None
    """By default `train`, or all of a source with one split."""
    question_column: str | None = None
    """Column with the question, if it cannot be guessed."""
    claim_column: str | None = None
    """Column with the claim (or the list of choices), if it cannot be guessed."""
    group_column: str | None = None
    """Column whose equal values make a group; by default equal questions do."""
    group_rule: Literal["one_answer", "at_most_one", "exactly_one", "all_equal", "antisymmetric"] | None = None
    """What holds between the labels of a group. Responses and comparisons have theirs."""
    answer_column: str | None = None
    """Column with a claim's final answer, for the rule `one_answer`."""
    gold_column: str | None = None
    """Column with gold labels (responses: right answers), if it cannot be guessed. Read for accuracy only."""
    responses_column: str = "responses"
    """Form `responses`: column with the models' texts."""
    claim: Literal["answer", "response"] = "answer"
    """Form `responses`: a claim for each different final answer, or for each response."""
    answer_metric: Literal["whole", "first", "set", "letter"] = "whole"
    """Form `responses`: how a final answer is compared with gold."""
    response_columns: tuple[str, str] = ("response_a", "response_b")
    """Form `comparisons`: the two columns."""
    preferred: str | None = None
    """Form `comparisons`: the column with the better response, or one that says A or B. Read for accuracy only."""
    template: str | None = None
    """correctness, truthfulness, comparison, multiple_choice, or a format string with columns in braces."""
    label_names: list[str] | None = None
    """Names of the labels, instead of the template's."""
    label_words: list[str] | None = None
    """For each label the words that are read, with "|" between variants: " no| No" " yes| Yes"."""
    true_label: str = "True"
    """The label that says that a claim holds."""
    clamp: str = "0"
    """Gold labels to give away: a number, or a column that has labels in some rows. They are counted and reported."""
    limit: int | None = None
    """At most so many claims, in whole groups."""
    data_seed: int = 0
    """Of the claims drawn by `limit` and `clamp`."""

    # ---- model ----
    dtype: str | None = None
    """Weights' dtype, such as bfloat16; by default float32 on a CPU, else as they are stored."""
    load_in_4bit: bool = False
    """Load the weights in 4 bits (NF4)."""
    batch_size: int = 16
    """Rows read side by side."""
    max_tokens: int | None = None
    """Length of a context; by default as long as the model reads. Demonstrations that do not fit are left out."""
    calibrate: bool = False
    """Subtract the model's prior over labels, measured on claims that say "N/A"."""
    separator: str = "\n\n"
    """Text between demonstrations."""

    resume_flag: ClassVar[str] = "--resume"

    def run(self) -> None:
        """Does it all.

        Raises:
            FileNotFoundError, ValueError: For anything that does not fit, before the search where it can be known.
        """
        from datasets.utils.logging import disable_progress_bar as hide_datasets_bars
        from transformers.utils.logging import disable_progress_bar

        from pst_rl.coherence.export import check_formats, write_labels
        from pst_rl.coherence.label_words import LabelWords
        from pst_rl.coherence.summary import summarise, write_summary
        from pst_rl.peers.reader import load_tokenizer
        from pst_rl.peers.spec import PeerSpec, check_spec

        disable_progress_bar()
        hide_datasets_bars()
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"--seeds must be different numbers, at least one, got {self.seeds}.")
        check_spec(PeerSpec(self.model))
        claims = self.load()
        check_formats(claims, self.formats)
        LabelWords(load_tokenizer(self.model), claims.label_words, after=claims.prompts[0])
        options = self._method_options()
        if self.dry_run:
            print("\n".join(self._plan(claims)))
            return
        settings = self._settings(claims)
        folder = self._folder(settings)
        from pst_rl.coherence import card  # only now, as it loads PEFT

        if self.push_to_hub:
            card.open_repository(self.push_to_hub, self.private)
        labellings = self._search(claims, options, folder, settings)
        files = write_labels(claims, labellings, folder, self.formats)
        card.write_card(claims, labellings, self.model, files, folder)
        write_summary(claims, labellings, folder)
        print("\n".join(summarise(claims, labellings)))
        print("Written: " + ", ".join(map(str, files.values())))
        if self.push_to_hub:
            print(f"Pushed: {card.push_labels(folder, files, self.push_to_hub, self.method).commit_url}")

    def load(self) -> Claims:
        """The claims that the options describe."""
        from pst_rl.coherence.builders import claims_from_comparisons, claims_from_responses
        from pst_rl.coherence.claims import load_claims
        from pst_rl.peers.foreign_text import Guard
        from pst_rl.peers.reader import load_tokenizer

        names = ("split", "question_column", "label_names", "label_words", "true_label", "limit")
        shared: dict[str, Any] = {name: getattr(self, name) for name in names} | {"seed": self.data_seed}
        shared |= {"clamp": int(self.clamp) if self.clamp.isdecimal() else self.clamp}
        chosen = {"template": self.template, "group_rule": self.group_rule}
        shared |= {name: value for name, value in chosen.items() if value is not None}
        if self.form != "claims":  # a model wrote them
            shared |= {"guard": Guard.of(load_tokenizer(self.model))}
        if self.form == "responses":
            shared |= {"responses_column": self.responses_column, "gold_column": self.gold_column}
            return claims_from_responses(self.data, **shared, claim=self.claim, metric=self.answer_metric)
        if self.form == "comparisons":
            shared |= {"response_columns": self.response_columns, "preferred": self.preferred}
            return claims_from_comparisons(self.data, **shared)
        columns = ("claim_column", "group_column", "gold_column", "answer_column")
        return load_claims(self.data, **shared, **{name: getattr(self, name) for name in columns})

    def _plan(self, claims: Claims) -> list[str]:
        from pst_rl.cli.prompt_preview import Prompts
        from pst_rl.peers.reader import load_tokenizer, plain_ids

        lengths = [len(ids) for ids in plain_ids(load_tokenizer(self.model), claims.prompts)]
        words = ", ".join(f"{n}: {w}" for n, w in zip(claims.label_names, claims.label_words, strict=True))
        return [
            str(Prompts(claims.prompts[0], tuple(lengths))),
            f"read after it: {words}",
            f"{len(claims)} claims, {len(claims.problem.constraints)} rules between them; all in one context: "
            f"{sum(lengths):,} tokens. Seeds: {len(self.seeds)}, method: {self.method}",
        ]

    # ---- the search ----

    def _method_options(self) -> dict[str, Any]:
        try:
            options = json.loads(self.method_options)
        except json.JSONDecodeError as error:
            raise ValueError(f"--method-options is no JSON ({error}); write e.g. '{{\"steps\": 500}}'.") from error
        if not isinstance(options, dict):
            raise ValueError("--method-options must be a JSON object, e.g. '{\"steps\": 500}'.")
        known = ["consistent"] if self.method == "zero_shot" else [f.name for f in fields(self._searcher())]
        if unknown := [name for name in options if name not in known]:
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}."
            raise ValueError(f"The method {self.method} has no option {unknown[0]!r}: {hint}")
        if self.method != "zero_shot":
            self._searcher(**options)
        return options

    def _searcher(self, **options: Any):
        from pst_rl.coherence.search import ICM, SEARCHERS

        return (SEARCHERS | {"icm_released_code": ICM.released_code})[self.method](**options)

    def _search(
        self, claims: Claims, options: Mapping[str, Any], folder: Path, settings: Mapping[str, Any]
    ) -> list[Labelling]:
        """One labelling for each seed; those that are finished are read."""
        from pst_rl.coherence.baselines import zero_shot
        from pst_rl.coherence.export import load_labelling, save_labelling

        found, predictor = [], None
        for seed in self.seeds:
            own = folder / f"seed-{seed}"
            if not (own / "labelling.json").exists():
                if predictor is None:
                    with phase(f"loading {self.model}"):
                        predictor = self._predictor(claims)
                if not (folder / SETTINGS).exists():  # only now: input that the model refuses leaves no run behind
                    write_atomically(folder / SETTINGS, json.dumps(settings, indent=2) + "\n")
                with phase(f"seed {seed}"):
                    if self.method == "zero_shot":
                        labelling = zero_shot(predictor, claims.problem, seed=seed, **options)
                    else:
                        searcher = self._searcher(**options)
                        labelling = searcher.search(predictor, claims.problem, seed=seed, folder=own)
                save_labelling(labelling, own / "labelling.json")
                if predictor.dropped:
                    print(f"seed {seed}: {predictor.dropped} times a demonstration did not fit the context.")
                    predictor.dropped = 0
            found.append(load_labelling(own / "labelling.json"))
        return found

    def _predictor(self, claims: Claims) -> LanguageModelPredictor:
        import torch
        from transformers import BitsAndBytesConfig

        from pst_rl.coherence.language_model import LanguageModelPredictor
        from pst_rl.peers.loading import load_model
        from pst_rl.peers.reader import load_tokenizer

        cuda = torch.cuda.is_available()
        settings: dict[str, Any] = {"dtype": self.dtype or ("auto" if cuda else "float32")}
        if self.load_in_4bit:
            settings["quantization_config"] = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
        if cuda:
            settings["device_map"] = {"": 0}
        return LanguageModelPredictor(
            load_model(self.model, **settings),
            load_tokenizer(self.model),
            claims.prompts,
            claims.label_words,
            separator=self.separator,
            batch_size=self.batch_size,
            max_tokens=self.max_tokens,
            calibrate=self.calibrate,
            content_free=(claims.template.content_free,) if self.calibrate else (),
        )

    def _settings(self, claims: Claims) -> dict[str, Any]:
        """What a run is known by, as it is read back."""
        settings = {name: value for name, value in asdict(self).items() if name not in _FREE}
        content = [claims.prompts, claims.groups, claims.problem.description()]
        settings["claims"] = json_digest(content, 16)
        return json.loads(json.dumps(settings))

    def _folder(self, settings: Mapping[str, Any]) -> Path:
        """The output folder; a run of other settings in it is left alone."""
        folder = Path(self.output_dir)
        path = folder / SETTINGS
        if not path.exists():
            return folder
        if not self.resume:
            raise ValueError(
                f"{folder} has a run already: add --resume to go on with it, or choose another --output-dir."
            )
        there = json.loads(path.read_text(encoding="utf-8"))
        if differ := [name for name in settings if settings[name] != there.get(name)]:
            name = differ[0]
            raise ValueError(
                f"{folder} has a run with other settings: {name} was {there.get(name)!r} and is {settings[name]!r}. "
                "Resume with the same ones, or set another --output-dir."
            )
        return folder
