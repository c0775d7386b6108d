"""GGUF files as peers and as measured models."""

from pathlib import Path

import pytest
import torch
from conftest import same, weights
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from pst_rl import Juror, PeerSpec, per_sample
from pst_rl.benchmarks.model import LanguageModel, model_digest
from pst_rl.benchmarks.peer_set import find_peers
from pst_rl.hub.peer_facts import inspect_peer
from pst_rl.memory.estimate import ModelShape
from pst_rl.peers.loading import forget_gguf, load_model
from pst_rl.peers.reader import load_tokenizer
from pst_rl.peers.sources import GgufFile, adapter_base, gguf_on_hub
from pst_rl.peers.spec import default_name, resolve_peers

pytest.importorskip("gguf")
from gguf_files import write_gguf  # noqa: E402

LORA = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
NF4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
SHORT = {"per_device_train_batch_size": 8, "max_completion_length": 8, "weighting": "none", "temperature": 5.0}


@per_sample
def letters(response):
    """Differs between responses, so that there is something to learn."""
    return len(set(response.text)) / 10


@pytest.fixture(scope="module")
def qwen(tiny):
    return AutoModelForCausalLM.from_pretrained(tiny["qwen2"]), AutoTokenizer.from_pretrained(tiny["qwen2"])


@pytest.fixture(scope="module")
def files(tmp_path_factory, qwen):
    """`files(kind, head)`: a GGUF file of the tiny Qwen2 peer with these blocks, written once."""
    folder = tmp_path_factory.mktemp("gguf")

    def write(kind="Q8_0", head=None, drop=""):
        path = folder / f"Qwen-{kind}{head or ''}{drop}.gguf"
        return path if path.is_file() else write_gguf(*qwen, path, kind, head, drop)

    return write


def one_line(error):
    assert "\n" not in str(error.value) and len(str(error.value)) < 400
    return True


# Reading


def test_no_bar_of_transformers_over_the_tensors_and_it_is_put_back(files, monkeypatch):
    from transformers import modeling_gguf_pytorch_utils as reading

    def bar(tensors, **options):
        shown.append(options.get("disable"))
        return tensors

    shown = []
    monkeypatch.setattr(reading, "tqdm", bar)
    load_model(files(), dtype="float32")
    assert shown and all(shown) and reading.tqdm is bar


def test_float_blocks_are_read_exactly_and_a_tokenizer_with_them(files, qwen):
    model, tokenizer = qwen
    read = load_model(files("F32"), dtype="float32")
    assert all(torch.equal(p, model.state_dict()[name]) for name, p in read.state_dict().items())
    own = load_tokenizer(files("F32"))
    said = [{"role": "user", "content": "What is 12 + 30?"}]
    assert own.apply_chat_template(said, return_dict=False) == tokenizer.apply_chat_template(said, return_dict=False)
    assert (own.eos_token, own.pad_token) == (tokenizer.eos_token, tokenizer.pad_token)


@pytest.mark.parametrize(
    ("kind", "head", "finer", "dtype"),
    [("Q8_0", None, False, None), ("Q4_0", "Q8_0", True, None), ("F16", "F16", False, "float16")],
)
def test_a_head_that_was_tied_is_tied_to_its_finer_copy(files, qwen, kind, head, finer, dtype):
    file = GgufFile.read(files(kind, head))
    assert (file.tied, file.head_is_finer, file.dtype) == (True, finer, dtype)
    read = load_model(file.path, dtype="float32")
    embedding = read.get_input_embeddings().weight
    assert read.get_output_embeddings().weight is embedding and read.config.tie_word_embeddings
    exact = qwen[0].get_input_embeddings().weight
    error = (embedding - exact).abs().max() / exact.abs().max()
    assert error < (0.01 if finer or kind != "Q4_0" else 1)  # of 8 bits, though the embedding has 4
    assert ModelShape.of(file.path).parameters == sum(p.numel() for p in read.parameters())


def test_a_head_of_its_own_stays_one(tmp_path, qwen):
    import copy

    model = copy.deepcopy(qwen[0])
    torch.manual_seed(0)
    own = torch.nn.Parameter(torch.randn_like(model.lm_head.weight) * 0.02)
    path = tmp_path / "own.gguf"
    write_gguf(model, qwen[1], path, "F32", head="F32", other_head=own.detach().numpy())
    assert not GgufFile.read(path).tied
    read = load_model(path, dtype="float32")
    assert torch.equal(read.lm_head.weight, own) and not read.config.tie_word_embeddings
    assert not ModelShape.of(path).tied


# Training


@pytest.mark.parametrize("kind", ["full", "nf4"])
def test_a_file_is_trained_saved_plain_and_resumed_bit_for_bit(trainer, files, tmp_path, kind):
    spec = PeerSpec(str(files()), quantization_config=NF4 if kind == "nf4" else None)

    def build(name):
        return trainer(
            {"a": spec},
            peft=None if kind == "full" else LORA,
            output_dir=str(tmp_path / name),
            max_steps=2,
            save_strategy="steps",
            save_steps=1,
            reward_providers=[letters],
            **SHORT,
        )

    straight, resumed = build("straight"), build("resumed")
    before = weights(straight.peers["a"].model)
    straight.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-1"))
    after = weights(straight.peers["a"].model)
    unchanged, equal = same(before, after), same(after, weights(resumed.peers["a"].model))
    assert equal and not unchanged
    straight.save_model()
    saved = tmp_path / "straight" / "a"
    if kind == "full":
        plain = AutoModelForCausalLM.from_pretrained(saved)
        assert same(weights(plain), after) and AutoTokenizer.from_pretrained(saved).chat_template
    else:
        assert adapter_base(saved) == str(files())
        ids = torch.tensor([[65, 66, 67]])
        with torch.no_grad():
            again = load_model(saved, dtype="float32")(ids).logits
            assert not torch.equal(again, load_model(files(), dtype="float32")(ids).logits)


def test_another_file_is_another_run(trainer, files, tmp_path):
    changed = tmp_path / files().name
    content = bytearray(files().read_bytes())
    content[-100] ^= 1
    changed.write_bytes(content)
    trainer({"a": str(files())}, max_steps=1, save_strategy="steps", save_steps=1, **SHORT).train()
    with pytest.raises(ValueError, match="peers.a.weights"):
        trainer({"a": str(changed)}, **SHORT).train(resume_from_checkpoint="last")


def test_a_model_object_from_a_file_can_be_saved(trainer, files, qwen):
    model = AutoModelForCausalLM.from_pretrained(files().parent, gguf_file=files().name)
    with pytest.raises(ValueError, match="not serializable"):
        model.save_pretrained(files().parent / "no")
    run = trainer({"a": PeerSpec(model, processing_class=qwen[1])}, max_steps=1, **SHORT)
    run.train()
    run.save_model()
    AutoModelForCausalLM.from_pretrained(Path(run.args.output_dir, "a"))


def test_packed_blocks_are_refused():
    packed = torch.nn.Linear(2, 2)
    packed.weight = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ValueError, match="are GGUF blocks, which cannot be trained") as error:
        forget_gguf(packed)
    assert one_line(error)


# Everywhere else


def test_names_of_files(files):
    assert default_name("runs/SmolLM2-135M.Q4_K_M.gguf") == "smollm2-135m.q4_k_m"
    assert default_name("org/repo-GGUF:sub/My Model.gguf") == "my-model"
    assert gguf_on_hub("org/repo-GGUF:sub/m.gguf") == ("org/repo-GGUF", "sub/m.gguf")
    assert gguf_on_hub(files()) is None
    assert find_peers([str(files())]) == {"qwen-q8_0": str(files())}


def test_a_file_is_measured_and_judges_like_a_peer(files):
    measured, judge = LanguageModel.load(str(files()), "mine"), Juror(str(files()))
    ids = torch.tensor([[65, 66, 67]])
    with torch.no_grad():
        assert torch.equal(measured.model(ids).logits, judge.model(ids).logits)
    assert measured.format.chat and measured.digest.startswith(model_digest(str(files())))
    assert model_digest(str(files())) != model_digest(str(files("Q4_0", "Q8_0")))


def test_a_file_is_inspected_without_its_weights(files, qwen, monkeypatch):
    monkeypatch.setattr("pst_rl.peers.loading.load_model", None)
    found = inspect_peer(str(files()))
    assert found.shape.parameters == sum(p.numel() for p in qwen[0].parameters())
    assert (found.dtype, found.license, found.name) == ("GGUF F32", "apache-2.0", "qwen-q8_0")
    assert found.files == {files().name: files().stat().st_size} and found.missing == found.refusals == ()


# What is refused, in one line


def test_without_the_package_one_line_says_what_to_install(files, monkeypatch):
    monkeypatch.setattr("pst_rl.peers.sources.is_gguf_available", lambda: False)
    for ask in (
        lambda: resolve_peers({"a": str(files())}),
        lambda: load_tokenizer(files()),
        lambda: load_model(files()),
    ):
        with pytest.raises(ValueError, match=r"pip install 'pst-rl\[gguf\]'") as error:
            ask()
        assert one_line(error)


def test_files_that_cannot_be_peers_are_refused(files, tmp_path):
    short = tmp_path / "short.gguf"
    short.write_bytes(files().read_bytes()[:-1000])
    none = tmp_path / "none.gguf"
    none.write_text("no model")
    for path, said in (
        (tmp_path / "missing.gguf", "does not exist"),
        (none, "none.gguf cannot be read as GGUF"),
        (short, "short.gguf cannot be read as GGUF, or is cut off"),
        ("org/no-such-repo:m.gguf", "Cannot look up"),
    ):
        with pytest.raises(ValueError, match=said) as error:
            resolve_peers({"a": str(path)})
        assert one_line(error)
    with pytest.raises(ValueError, match="Name the model in it: .*(short|none).gguf"):
        resolve_peers({"a": str(tmp_path)})


def test_a_missing_tensor_is_named_and_not_made_up(files):
    with pytest.raises(
        ValueError, match="lacks 1 of the model's tensors, such as model.layers.1.mlp.up_proj"
    ) as error:
        load_model(files(drop="blk.1.ffn_up.weight"))
    assert one_line(error)
