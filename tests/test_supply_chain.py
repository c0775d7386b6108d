"""Nothing that was downloaded runs as code, nothing secret is written down, nothing is sent unasked."""

import ast
import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.utils import _telemetry
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pst_rl.hub.cards import without_secrets
from pst_rl.peers.spec import PeerSpec, resolve_peers

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [path for folder in ("pst_rl", "examples", "scripts") for path in sorted((ROOT / folder).rglob("*.py"))]
UNPICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
TOKEN = "hf_" + "Zq7" * 12


# Code


def called(node):
    """`name` or `module.name` of a call."""
    function = node.func
    if isinstance(function, ast.Attribute):
        return f"{function.value.id}.{function.attr}" if isinstance(function.value, ast.Name) else f".{function.attr}"
    return function.id if isinstance(function, ast.Name) else ""


def dangers(source):
    """What in a source runs text as code, or reads a pickle."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [name for name in names if name.split(".")[0] in UNPICKLERS]
        if not isinstance(node, ast.Call):
            continue
        name, options = called(node), {word.arg: getattr(word.value, "value", "?") for word in node.keywords}
        if name in ("eval", "exec", "compile", "__import__", "sympify", "parse_expr", "os.system", "os.popen"):
            found.append(name)
        if name.split(".")[-1] in ("sympify", "parse_expr", "lambdify", "literal_eval"):
            found.append(name)
        if name == "torch.load" and options.get("weights_only") is not True:
            found.append("torch.load")
        found += [key for key in ("shell", "allow_pickle", "trust_remote_code") if options.get(key) is True]
        if name.endswith("AutoModelForCausalLM.from_pretrained") and options.get("use_safetensors") is not True:
            found.append(name)
    return found


def test_the_search_for_dangers_finds_them():
    planted = [
        "eval('1')",
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "sympy.sympify(text)",
        "np.load(path, allow_pickle=True)",
        "AutoModelForCausalLM.from_pretrained(name)",
        "f(trust_remote_code=True)",
    ]
    assert [source for source in planted if not dangers(source)] == []


OWN = {"pst_rl/tiny", "scripts"}  # load only models that this repository holds or has just written
ALLOWED = {
    "scripts/mutation.py": ["exec", "compile"],  # runs changed copies of our own source: what it is for
    "pst_rl/report/run.py": ["pickle"],  # names the error that a broken file raises, and reads none
    "scripts/bench_exchange.py": ["pickle"],  # writes pickles, to count their bytes, and reads none
}


def test_no_source_runs_text_or_reads_a_pickle():
    bad = []
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        allowed = ALLOWED.get(name, []) + ["AutoModelForCausalLM"] * any(name.startswith(own) for own in OWN)
        bad += [f"{name}: {danger}" for danger in dangers(path.read_text()) if danger.split(".")[0] not in allowed]
    assert bad == [] and len(SOURCES) > 200


# Packages

NOT_IMPORTED = {
    "latex2sympy2-extended": "math-verify reads LaTeX with it",
    "antlr4-python3-runtime": "latex2sympy2_extended parses with it, and takes no other version",
}
OPTIONAL = {"gguf"}  # extras, imported inside functions that say so where they are missing


def imported(sources):
    """The distributions whose modules the sources import anywhere, at their top or inside a function."""
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text()))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    modules = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"pst_rl"}
    holders = packages_distributions()
    return {canonicalize_name(holder) for module in modules for holder in holders.get(module, [module])}


@pytest.fixture(scope="module")
def declared():
    """The package's own dependencies by name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert OPTIONAL <= set(project["optional-dependencies"])
    return {canonicalize_name(found.name): found for found in map(Requirement, project["dependencies"])}


def test_every_package_that_is_imported_is_declared_and_no_other(declared):
    found = imported(sorted((ROOT / "pst_rl").rglob("*.py")))
    assert {"torch", "pyyaml", "pandas"} <= found  # the search finds modules of another name, and those in functions
    assert found - set(declared) == OPTIONAL
    assert set(declared) - found == set(NOT_IMPORTED)


def test_the_versions_that_were_tested_are_in_the_declared_ranges(declared):
    pins = map(Requirement, (ROOT / "constraints.txt").read_text().split())
    tested = {canonicalize_name(pin.name): next(iter(pin.specifier)).version for pin in pins}
    assert {name for name, wanted in declared.items() if not wanted.specifier.contains(tested[name])} == set()


# Weights and code of peers


def test_a_folder_with_pickled_weights_only_is_refused_before_anything_is_loaded(tiny, tmp_path):
    (tmp_path / "config.json").write_text((Path(tiny["llama"]) / "config.json").read_text())
    torch.save({}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="save_pretrained"):
        resolve_peers({"a": str(tmp_path)})


def test_a_pickle_beside_safetensors_is_not_opened(trainer, tiny, tmp_path):
    for file in Path(tiny["llama"]).iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    assert trainer(peers={"a": str(tmp_path)}).peers["a"].model.num_parameters() > 0


def test_code_of_a_repository_runs_only_for_the_peer_it_was_asked_for(trainer, tiny):
    peers = {"a": PeerSpec(tiny["llama"], trust_remote_code=True), "b": tiny["qwen2"]}
    built = trainer(peers=peers)
    assert [peer.args.trust_remote_code for peer in built.engines] == [True, False]


def test_code_of_all_repositories_cannot_be_asked_for_at_once(config):
    with pytest.raises(ValueError, match="PeerSpec"):
        config(trust_remote_code=True)


# Secrets and folders


@pytest.fixture
def saved(trainer, tmp_path, monkeypatch, caplog, capfd):
    """A run that was given a token twice, saved and logged: its folder, and what it said."""
    monkeypatch.setenv("HF_TOKEN", TOKEN[::-1])
    caplog.set_level("DEBUG", logger="pst_rl")
    built = trainer(hub_token=TOKEN, max_steps=1, save_strategy="steps", save_steps=1, log_completions=True)
    built.train()
    built.save_model()
    said = f"{capfd.readouterr()}{caplog.text}{built.args}{built.args!r}{built.state.log_history}"
    return Path(built.args.output_dir), said


def test_the_token_is_in_no_file_and_no_log(saved):
    folder, said = saved
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    for secret in (TOKEN, TOKEN[::-1]):
        assert secret not in said
        assert [path.name for path in files if secret.encode() in path.read_bytes()] == []


def test_only_training_arguments_and_no_card_or_state_name_a_folder(saved, tiny):
    folder, _ = saved
    local = [str(folder).encode(), tiny["llama"].encode()]
    named = {path.name for path in folder.rglob("*") if path.is_file() and any(p in path.read_bytes() for p in local)}
    assert named <= {"training_args.bin"}  # stays on this machine: see NOT_PUSHED


def test_a_card_names_neither_the_folders_nor_the_token_of_an_option(trainer, tmp_path):
    built = trainer(reward_options={"matches_aggregate": {}}, hub_token="secret-of-mine")
    built.args.reward_options = {"icm": {"judge": "/home/me/models/juror", "note": "secret-of-mine", "other": TOKEN}}
    built.write_card("gemma2", tmp_path / "card")
    text = (tmp_path / "card" / "README.md").read_text()
    assert '"judge": "juror"' in text and "/home/me" not in text and TOKEN not in text and "secret-of-mine" not in text


@pytest.mark.parametrize(
    "text",
    [
        "3 km/h and 1/2",
        "[user/name](https://huggingface.co/user/name)",
        r"`'Question: {q}\n\nClaim: \\frac{1}{2}'`",
        "| a | b/c |",
        "</s> and hf_short",
    ],
)
def test_other_slashes_in_a_card_stay(text):
    assert without_secrets(text) == text


# Telemetry


@pytest.mark.parametrize(("asked", "off"), [(None, True), ("0", False), ("1", True)])
@pytest.mark.parametrize("first", ["pst_rl", "huggingface_hub.constants"])
def test_telemetry_is_off_unless_it_is_asked_for_whatever_is_imported_first(asked, off, first):
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")}
    environment |= {"PYTHONPATH": str(ROOT)} | ({} if asked is None else {"HF_HUB_DISABLE_TELEMETRY": asked})
    code = f"import {first}, pst_rl, huggingface_hub.constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == str(off), done.stderr


@pytest.mark.parametrize(("disabled", "pings"), [(True, 0), (False, 3)])
def test_no_trainer_sends_anything_by_itself(trainer, monkeypatch, disabled, pings):
    sent = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(constants, "is_offline_mode", lambda: False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", disabled)
    monkeypatch.setattr(_telemetry, "_start_telemetry_thread", lambda: None)
    monkeypatch.setattr(_telemetry._TELEMETRY_QUEUE, "put", sent.append)
    trainer()
    assert len(sent) == pings  # TRL's: one for each peer, and one for the joint trainer
