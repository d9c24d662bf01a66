"""What training wrote can be resumed, generated from, averaged, folded.

With every flag that changes what is saved or built: each case trains, is killed in the middle of an
epoch, goes on, translates, averages, translates, folds, and translates with stock fairseq and the
fold alone: the same hypotheses as with the mean.

Left out, since no CPU runs them: --fp16 (its optimizer is tested in test_first_step), apex's
optimizers, --ddp-backend fully_sharded, --pipeline-*, --use-bmuf (several processes),
--quant-noise-scalar, --offload-activations.
"""

import re

import pytest
import torch

from tests.helpers import TRAIN_FLAGS, USER_DIR, has_compiled_parts

pytestmark = [pytest.mark.subprocess, pytest.mark.slow]

SMALL = "--encoder-layers 2 --decoder-layers 2 --encoder-embed-dim 16 --encoder-ffn-embed-dim 32"
AUTO = "--init-type adaptive-auto"
SHARED = "--share-all-embeddings"
PRE_LN = "--encoder-normalize-before --decoder-normalize-before"
SOFTMAX = "--criterion adaptive_loss --ddp-backend legacy_ddp --adaptive-softmax-cutoff 10,20"
BLEU = """--eval-bleu --eval-bleu-args {"beam":2,"max_len_b":8} --eval-bleu-detok moses
    --eval-bleu-remove-bpe --best-checkpoint-metric bleu --maximize-best-checkpoint-metric"""

# flags of ours
OURS = {
    "default": f"--init-type default {SHARED}",
    "pre-ln": f"--init-type default {PRE_LN} {SHARED}",
    "one stack pre-ln": "--init-type default --encoder-normalize-before",
    "adaptive": f"--init-type adaptive {SHARED}",
    "adaptive-auto": f"{AUTO} {SHARED}",
    "analytic": f"--init-type analytic {SHARED}",
    "analytic O(1)": "--init-type analytic --analytic-output-change O(1) "
    "--share-decoder-input-output-embed",
    "analytic O(n)": "--init-type analytic --analytic-output-change O(n)",
    "analytic constant": f"--init-type analytic --analytic-constant {SHARED}",
    "deepnet": f"--init-type deepnet {SHARED}",
    "rezero": f"--init-type rezero {SHARED}",
    "rezero_postln": f"--init-type rezero_postln {SHARED}",
    "looklinear": f"--init-type looklinear {SHARED}",
    "trace": f"{AUTO} --trace-interval 1 --log-format json",
    "freeze-first-omega, xavier-ffn": f"{AUTO} --freeze-first-omega --xavier-ffn "
    f"--share-decoder-input-output-embed",
    "count-padding, freeze-omega, profile elsewhere": f"{AUTO} --admin-count-padding "
    f"--freeze-omega --admin-profile {{folder}}/here.profile",
    "tiny architecture": f"{AUTO} --arch admin_transformer_iwslt_de_en --decoder-embed-dim 16 "
    f"--decoder-ffn-embed-dim 32",
}
# flags of fairseq's that change the model
MODEL = {
    "layernorm-embedding": f"{AUTO} --layernorm-embedding {SHARED}",
    "learned positions, no scaling": f"{AUTO} --encoder-learned-pos --decoder-learned-pos "
    f"--no-scale-embedding",
    "positions, padding left or right": f"{AUTO} --max-source-positions 100 "
    f"--max-target-positions 90 --truncate-source --left-pad-source",
    "no positions": f"{AUTO} --no-token-positional-embeddings {SHARED}",
    "no final norm": f"--init-type default {PRE_LN} --no-decoder-final-norm",
    "checkpoint activations": f"{AUTO} --checkpoint-activations {SHARED}",
    "layerdrop": "--init-type analytic --encoder-layerdrop 0.2 --decoder-layerdrop 0.2",
    "no cross-attention": f"{AUTO} --no-cross-attention",
    "cross-self-attention": f"{AUTO} --cross-self-attention {SHARED}",
    "quant-noise-pq": "--init-type analytic --quant-noise-pq 0.1 --quant-noise-pq-block-size 8",
    "gelu": f"{AUTO} --activation-fn gelu --activation-dropout 0.1 --attention-dropout 0.1",
    "narrow output": f"{AUTO} --decoder-output-dim 8",
    "stacks of other sizes": f"{AUTO} --decoder-embed-dim 24 --decoder-ffn-embed-dim 40 "
    f"--decoder-layers 1 --encoder-layers 3",
    "merged vocabularies": f"{AUTO} --merge-src-tgt-embed",
    "embeddings from files": f"{AUTO} --encoder-embed-path {{folder}}/vectors "
    f"--decoder-embed-path {{folder}}/vectors",
    "shared embeddings from a file": f"{AUTO} --encoder-embed-path {{folder}}/vectors {SHARED}",
    "adaptive softmax": f"{AUTO} {SOFTMAX} --adaptive-softmax-factor 2 "
    f"--adaptive-softmax-dropout 0.1",
    "adaptive softmax, shared output": f"{AUTO} {SOFTMAX} --share-decoder-input-output-embed",
    "adaptive softmax, all shared": f"{AUTO} {SOFTMAX} {SHARED}",
    "tied adaptive softmax": f"--init-type default {SOFTMAX} --tie-adaptive-proj",
}
# flags of fairseq's that change what a training keeps, and how
TRAINING = {
    "eval-bleu": f"{AUTO} {BLEU} {SHARED}",
    "eval-bleu, samples": f"--init-type default {BLEU} --eval-bleu-print-samples "
    f"--eval-tokenized-bleu --keep-best-checkpoints 2",
    "ema": f"--init-type analytic --store-ema --ema-decay 0.9 {SHARED}",
    "ema in float32": "--init-type deepnet --store-ema --ema-fp32 --ema-start-update 3",
    "ema of pre-ln": f"--init-type default {PRE_LN} --store-ema --ema-decay 0.9",
    "bf16": f"{AUTO} --bf16 {SHARED}",
    "memory-efficient bf16, radam": f"{AUTO} --memory-efficient-bf16",
    "memory-efficient fp16, radam": f"{AUTO} --memory-efficient-fp16",
    "memory-efficient fp16, adam": f"{AUTO} --optimizer adam --memory-efficient-fp16",
    "amp": f"{AUTO} --amp",
    "checkpoint-suffix": f"{AUTO} --checkpoint-suffix _x",
    "bf16, not flat, no optimizer state": f"{AUTO} --bf16 --fp16-no-flatten-grads "
    f"--no-save-optimizer-state",
    "adam, update-freq, two validation sets": f"{AUTO} --optimizer adam --weight-decay 0.01 "
    f"--clip-norm 0.1 --update-freq 2 --sentence-avg --valid-subset valid,test",
    "adafactor": f"{AUTO} --optimizer adafactor",
    "sgd, plateau": f"{AUTO} --optimizer sgd --momentum 0.9 "
    f"--lr-scheduler reduce_lr_on_plateau --lr-shrink 0.5",
    "nag, fixed": f"{AUTO} --optimizer nag --lr-scheduler fixed --force-anneal 3",
    "adamax, polynomial": f"{AUTO} --optimizer adamax --lr-scheduler polynomial_decay "
    f"--total-num-update 50",
    "cosine": f"{AUTO} --lr-scheduler cosine --warmup-init-lr 1e-7 --max-update 500",
    "tri_stage": f"{AUTO} --lr-scheduler tri_stage --phase-ratio (0.1,0.4,0.5) --max-update 500",
    "cross_entropy, buckets, tensorboard": f"{AUTO} --criterion cross_entropy --log-format simple "
    f"--num-batch-buckets 3 --tensorboard-logdir {{folder}}/board",
    "accuracy, few checkpoints": f"{AUTO} --report-accuracy --ignore-prefix-size 1 "
    f"--keep-interval-updates 3 --keep-last-epochs 1 --keep-best-checkpoints 2",
    "epoch iterator, patience": f"{AUTO} --update-epoch-batch-itr True "
    f"--validate-interval-updates 2 --no-epoch-checkpoints --patience 9",
}
CANNOT_FOLD = {
    "pre-ln": None,  # without omegas it is a stock model already
    "cross-self-attention": "--cross-self-attention",
    "rezero": "--init-type rezero",
    "merged vocabularies": "--merge-src-tgt-embed",
}
NOT_OURS = {
    "--optimizer": ["--adam-betas"],
    "--lr-scheduler": ["--warmup-updates"],
    "--criterion": ["--label-smoothing"],
}
KEEPS = {  # flags of these stay
    "--optimizer": {"adam": ["--adam-betas"], "radam": ["--adam-betas"]},
    "--lr-scheduler": {
        name: ["--warmup-updates"]
        for name in (
            "inverse_sqrt", "polynomial_decay", "cosine", "reduce_lr_on_plateau", "fixed",
        )
    },
    "--criterion": {"label_smoothed_cross_entropy": ["--label-smoothing"]},
}  # fmt: skip


def flags_of(case, folder):
    """The words of a case: the flags of all tests, without what its other choices do not know."""
    words = case.format_map({"folder": folder}) if "{folder}" in case else case
    words = words.split()
    common = list(TRAIN_FLAGS)
    common.remove("--share-all-embeddings")
    for choice, flags in NOT_OURS.items():
        if choice in words:
            kept = KEEPS[choice].get(words[words.index(choice) + 1], [])
            for flag in set(flags) - set(kept):
                at = common.index(flag)
                del common[at : at + 2]
    return [*common, *words]


class Walk:
    """The commands of one case."""

    def __init__(self, warm, data_bin, folder, case):
        self.warm, self.data_bin, self.folder, self.runs = warm, data_bin, folder, folder / "run"
        self.plugin = ["--user-dir", USER_DIR]
        self.flags = flags_of(case, folder)

    def train(self, *more, **options):
        words = [
            "fairseq-train",
            self.data_bin,
            *self.plugin,
            "--cpu",
            "--save-dir",
            self.runs,
            "--save-interval-updates",
            2,
        ]
        return self.warm.run(*words, *self.flags, *more, cwd=self.folder, **options)

    def admin(self, *words, **options):
        return self.warm.run("admin-fairseq", *words, cwd=self.folder, **options)

    def generate(self, path, *plugin):
        """Return the hypotheses, in the order of the data."""
        # the multiple: without the plugin, fairseq loses the last batch otherwise
        limits = ["--beam", 2, "--max-len-b", 8, "--required-batch-size-multiple", 1]
        result = self.warm.run(
            "fairseq-generate",
            self.data_bin,
            *plugin,
            "--cpu",
            "--path",
            path,
            *limits,
            cwd=self.folder,
        )
        found = {kind: re.findall(rf"^{kind}-(\d+)\t(.*)", result.stdout, re.M) for kind in "SH"}
        assert sorted(int(number) for number, _ in found["S"]) == list(range(27)), (
            "every sentence once"
        )
        return [
            text.partition("\t")[2] for _, text in sorted(found["H"], key=lambda line: int(line[0]))
        ]

    def checkpoints(self):
        return sorted(self.runs.glob("checkpoint*.pt"), key=lambda path: path.stat().st_mtime)


def vectors(data_bin, folder, dim=16):
    """Write a file of pretrained embeddings for some of the words."""
    words = [line.split()[0] for line in (data_bin / "dict.en.txt").read_text().splitlines()[:20]]
    lines = [
        f"{word} " + " ".join(str((number * 7 + i) % 5 / 5 - 0.4) for i in range(dim))
        for number, word in enumerate(words)
    ]
    (folder / "vectors").write_text("\n".join([f"{len(words)} {dim}", *lines]) + "\n")


def walk(warm, data_bin, folder, name, case):
    self = Walk(warm, data_bin, folder, case)
    if "/vectors" in case:
        vectors(data_bin, folder)
    if "--init-type adaptive " in case:
        at = self.flags.index("--init-type") + 1
        self.flags[at] = "adaptive-profiling"
        self.train()
        self.flags[at] = "adaptive"
    suffix = "_x" if "--checkpoint-suffix" in case else ""
    last = ["--max-update", 12]
    # an epoch has four updates, or two with --update-freq 2
    self.train(
        "--max-update",
        500,
        kill_when=[self.runs / f"checkpoint_2_6{suffix}.pt", self.runs / f"checkpoint3{suffix}.pt"],
    )
    (folder / "vectors").unlink(missing_ok=True)
    resumed = self.train(*last).stdout
    assert re.search(r"Loaded checkpoint \S+ \(epoch \d+ @ \d+ updates\)", resumed), (
        "it went on from where it was killed"
    )

    newest = self.runs / f"checkpoint_last{suffix}.pt"
    assert_plain(newest)
    mean, stock = folder / "mean.pt", folder / "stock.pt"
    others = [
        path
        for path in self.checkpoints()
        if re.fullmatch(rf"checkpoint(_\d+_)?\d+{suffix}\.pt", path.name)
    ]
    self.admin("average", "--inputs", newest, others[-1], "--output", mean)
    hypotheses = self.generate(mean, *self.plugin)

    refusal = CANNOT_FOLD.get(name)
    folded = self.admin("fold", mean, stock, "--safe", check=refusal is None)
    if refusal is None:
        # fairseq makes no batches there without the plugin
        plugin = [] if has_compiled_parts() else self.plugin
        assert self.generate(stock, *plugin) == hypotheses, (
            "stock fairseq, without the plugin, translates alike"
        )
    else:
        assert (
            folded.returncode == 1
            and refusal in folded.stdout
            and folded.stdout.count("error:") == 1
        )
    return self


def assert_plain(path):
    """A checkpoint loads where nothing but a Namespace is allowed beside torch's own."""
    from argparse import Namespace

    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    torch.serialization.add_safe_globals([Namespace])
    try:
        torch.load(path, weights_only=True)
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


class TestOurs:
    @pytest.mark.parametrize("name", OURS)
    def test_flags(self, warm, data_bin, tmp_path, name):
        walk(warm, data_bin, tmp_path, name, OURS[name])


class TestModel:
    @pytest.mark.parametrize("name", MODEL)
    def test_flags(self, warm, data_bin, tmp_path, name):
        walk(warm, data_bin, tmp_path, name, MODEL[name])


class TestTraining:
    @pytest.mark.parametrize("name", TRAINING)
    def test_flags(self, warm, data_bin, tmp_path, name):
        walk(warm, data_bin, tmp_path, name, TRAINING[name])
