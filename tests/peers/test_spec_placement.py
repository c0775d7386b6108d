"""Where peers may live: whole, on the one device of their process. Everything else is refused with the remedy."""

import pytest

from pst_rl import PSTTrainer
from pst_rl.peers.spec import check_launch

REMEDY = "plain data parallelism .*accelerate launch --multi_gpu.*--load-in-4bit --use-peft"


@pytest.mark.parametrize(("option", "kind"), [("deepspeed", "DeepSpeed"), ("fsdp", "FSDP")])
def test_sharding_asked_for_in_the_configuration_is_refused(config, questions, tiny, option, kind):
    settings = config()
    setattr(settings, option, "settings.json")  # TRL's own checks at construction need DeepSpeed, or several GPUs
    with pytest.raises(ValueError, match=f"{kind} is not supported: .*{REMEDY}"):
        PSTTrainer([tiny["llama"]], settings, questions())


def test_what_accelerate_sets_for_fsdp_is_refused(config, monkeypatch):
    from accelerate.commands.launch import launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    flags = "--use_fsdp --num_processes 2 --num_machines 1 --main_process_port 0 --mixed_precision no"
    launch = launch_command_parser().parse_args([*flags.split(), "--dynamo_backend", "no", "script.py"])
    settings = config()
    check_launch(settings)
    for name, value in prepare_multi_gpu_env(launch).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=f"FSDP is not supported: .*{REMEDY}"):
        check_launch(settings)


def test_one_process_with_several_gpus_is_refused_before_loading(config, questions, tiny):
    settings = config()
    settings._n_gpu = 2  # what transformers sets when it finds two
    with pytest.raises(ValueError, match="2 GPUs are visible to one process.*accelerate launch --multi_gpu"):
        PSTTrainer([tiny["llama"]], settings, questions())
