"""Adapters become plain models that answer alike."""

import os
import subprocess
import sys

import pytest
import torch

from pst_rl.cli.main import main
from pst_rl.peers.asked import Asked, read_asked, write_asked


@pytest.fixture
def adapter(tiny, tmp_path):
    """An adapter of a tiny peer that changes what it says."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny["llama"])
    model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.05)
    model.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(tiny["llama"]).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", model.eval()


def test_an_adapter_becomes_a_plain_model_that_says_the_same(adapter, tiny, tmp_path, capsys):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, before = adapter
    write_asked(Asked(max_completion_length=20), folder)
    assert main(["merge", "--peers", f"one={folder}", "--output-dir", str(tmp_path / "out")]) == 0
    assert f"one: {tmp_path / 'out' / 'one'}" in capsys.readouterr().out
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "out" / "one").eval()
    ids = torch.arange(5, 25)[None]
    base = AutoModelForCausalLM.from_pretrained(tiny["llama"]).eval()
    with torch.no_grad():
        merged, alone, plain = (m(ids).logits for m in (after, base, before))
    torch.testing.assert_close(merged, plain, atol=1e-4, rtol=1e-4)
    assert (merged - alone).abs().max() > 0.01
    assert not (tmp_path / "out" / "one" / "adapter_config.json").exists()
    assert read_asked(tmp_path / "out" / "one").max_completion_length == 20
    assert AutoTokenizer.from_pretrained(tmp_path / "out" / "one").chat_template


def test_a_log_file_has_phases_and_no_bars_of_libraries(tiny, tmp_path):
    pytest.importorskip("gguf")
    from gguf_files import write_gguf
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny["qwen2"])
    file = write_gguf(model, AutoTokenizer.from_pretrained(tiny["qwen2"]), tmp_path / "packed.gguf")
    words = ["merge", "--peers", str(file), tiny["llama"], "--output-dir", str(tmp_path / "out")]
    hidden = {"HF_HUB_DISABLE_PROGRESS_BARS", "TQDM_DISABLE"}
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    command = [sys.executable, "-m", "pst_rl.cli", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("merging: 2 peers\n") and "\r" not in done.stderr and "%|" not in done.stderr


def test_what_is_there_already_is_not_replaced(tiny, tmp_path, capsys):
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "mine.txt").write_text("mine")
    assert main(["merge", "--peers", tiny["llama"], "--output-dir", str(tmp_path)]) == 2
    (tmp_path.parent / f"{tmp_path.name}-2").mkdir()
    assert main(["merge", "--peers", tiny["llama"], "--output-dir", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "is there already" in said and f"add --output-dir {tmp_path}-3." in said
    assert main(["merge", "--peers", tiny["llama"], "--dtype", "int4", "--output-dir", str(tmp_path / "x")]) == 2
