"""What several tests need: small models, batches and commands."""

import argparse
import functools
import os
import subprocess
import sys
from pathlib import Path

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from tests import warm

REPOSITORY = Path(__file__).resolve().parent.parent
USER_DIR = str(REPOSITORY / "admin_fairseq")
GOLDEN = REPOSITORY / "tests" / "golden"
PARITY = REPOSITORY.parent / "shared" / "parity"


def dictionary(size=40):
    """A dictionary of ``size`` types, fairseq's four special ones included."""
    words = Dictionary()
    for number in range(size - words.nspecial):
        words.add_symbol(f"w{number}")
    return words


def task(source_types=40, target_types=None):
    source = dictionary(source_types)
    target = source if target_types is None else dictionary(target_types)
    return TranslationTask(TranslationConfig(source_lang="en", target_lang="de"), source, target)


def arguments(arch="admin_transformer", layers=(2, 2), dim=16, **flags):
    """The flags that a model is built from; small, without dropout."""
    values = dict(
        arch=arch,
        encoder_layers=layers[0],
        decoder_layers=layers[1],
        encoder_embed_dim=dim,
        encoder_ffn_embed_dim=2 * dim,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        dropout=0.0,
        max_source_positions=64,
        max_target_positions=64,
        min_params_to_wrap=int(1e8),
        no_token_positional_embeddings=False,
    )
    values.update(flags)
    args = argparse.Namespace(**values)
    ARCH_CONFIG_REGISTRY[arch](args)
    return args


def build(arch="admin_transformer", seed=1, on_task=None, **flags):
    """Build a model with the weights of a seed."""
    return build_from(arguments(arch, **flags), on_task or task(), seed)


def build_from(args, on_task, seed=1):
    torch.manual_seed(seed)
    return ARCH_MODEL_REGISTRY[args.arch].build_model(args, on_task)


def adaptive(seed=1, omegas=None, **flags):
    """An Admin model, profile not needed; ``omegas``: one scalar per site, in forward order."""
    model = build(seed=seed, init_type="adaptive", **flags)
    model.load_state_dict(model.state_dict())  # as a checkpoint's, it is trained as it is
    if omegas is not None:
        from admin_fairseq.sites import named_sites

        sites = list(named_sites(model).values())
        assert len(sites) == len(omegas)
        with torch.no_grad():
            for site, omega in zip(sites, omegas):
                site.omega.fill_(omega)
    return model


def batch(
    types=40, sentences=4, source_length=7, target_length=6, padding=True, seed=1, device="cpu"
):
    """A fairseq batch of random tokens: source padded left, target padded right."""
    generator = torch.Generator().manual_seed(seed)
    source = torch.randint(4, types, (sentences, source_length), generator=generator)
    target = torch.randint(4, types, (sentences, target_length), generator=generator)
    source[:, -1] = target[:, -1] = 2
    source_lengths = torch.full((sentences,), source_length)
    for row in range(1, sentences if padding else 0):
        cut = row % (min(source_length, target_length) - 2)
        source[row, :cut] = 1
        source_lengths[row] -= cut
        target[row, target_length - cut - 1] = 2
        target[row, target_length - cut :] = 1
    previous = torch.cat([torch.full((sentences, 1), 2), target[:, :-1]], dim=1)
    previous[target.eq(1)] = 1
    sample = {
        "net_input": {
            "src_tokens": source,
            "src_lengths": source_lengths,
            "prev_output_tokens": previous,
        },
        "target": target,
        "ntokens": int(target.ne(1).sum()),
        "nsentences": sentences,
    }
    return to_device(sample, device)


def to_device(sample, device):
    if torch.is_tensor(sample):
        return sample.to(device)
    return (
        {k: to_device(v, device) for k, v in sample.items()} if isinstance(sample, dict) else sample
    )


def run(*command, cwd=None, check=True, env=None, timeout=600):
    """Run one of fairseq's commands, or ours, as a user does; output and errors in one text.

    Without an environment of its own a command runs in a fork of the warm process.
    """
    words = [str(word) for word in command]
    if words[0] in warm.ENTRIES and env is None:
        folder = cwd or os.getcwd()
        return warm.shared().run(*words, cwd=folder, check=check, timeout=timeout)
    tool = Path(sys.executable).parent / words[0]
    if tool.exists():
        words[0] = str(tool)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    result = subprocess.run(
        words,
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    if check and result.returncode != 0:
        raise AssertionError(
            f"{' '.join(words)}: exit code {result.returncode}\n{result.stdout[-6000:]}"
        )
    return result


@functools.cache
def light_seconds():
    """CPU seconds that a command without torch may take on this machine.

    Eight times those of Python's own start with what such commands import of its library, the best
    of three: an import of torch takes three times as long again.
    """
    code = "import argparse, configparser, dataclasses, hashlib, json, logging, typing, time\n"
    code += "import subprocess, tempfile, urllib.request\nprint(time.process_time())"
    starts = [float(run(sys.executable, "-c", code).stdout) for _ in range(3)]
    return max(0.4, 8 * min(starts))


def has_compiled_parts():
    """Whether this fairseq has those that ``compat.compiled`` stands in for."""
    return hasattr(sys.modules["fairseq.data.data_utils_fast"], "__file__")


def before_torch_2_6():
    """Whether torch.load is not restricted by default, and knows no pairs of class and name."""
    return not hasattr(torch.serialization, "get_unsafe_globals_in_checkpoint")


TRAIN_FLAGS = """
    --arch admin_transformer_tiny --encoder-layers 2 --decoder-layers 2 --encoder-embed-dim 16
    --encoder-ffn-embed-dim 32 --encoder-attention-heads 2 --decoder-attention-heads 2
    --share-all-embeddings --optimizer radam --adam-betas (0.9,0.98) --lr 5e-3
    --lr-scheduler inverse_sqrt --warmup-updates 4 --criterion label_smoothed_cross_entropy
    --label-smoothing 0.1 --max-tokens 256 --dropout 0.1 --no-progress-bar --log-interval 1
    --num-workers 0 --seed 7
""".split()


def train(data_bin, save_dir, *flags, **kwargs):
    """Run fairseq-train with a very small model on the CPU."""
    command = ["fairseq-train", data_bin, "--user-dir", USER_DIR, "--cpu", "--save-dir", save_dir]
    return run(*command, *TRAIN_FLAGS, *flags, **kwargs)
