"""fairseq's commands and ours, end to end: stages, resuming, translating, folding, learning.

Later checks go on with what earlier ones left in the settings' folder.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

from admin_fairseq.experiments.processes import ending_with_us
from admin_fairseq.logs import read_generation, read_log
from admin_fairseq.profile import file as profile_file
from tests.gpu.settings import Result, Skipped, limited
from tests.helpers import REPOSITORY, USER_DIR

PROGRAMS = {
    "preprocess": "fairseq_cli.preprocess",
    "train": "fairseq_cli.train",
    "generate": "fairseq_cli.generate",
    "admin-fairseq": "admin_fairseq",
}
# the model of the quick start, and a small one
SIZE = "--encoder-layers 18 --decoder-layers 18 --dropout 0.1"
DIMS = "embed-dim 64 ffn-embed-dim 128 attention-heads 4"
SMALL_SIZE = "--encoder-layers 2 --decoder-layers 2 --dropout 0.1"
SMALL_DIMS = "embed-dim 16 ffn-embed-dim 32 attention-heads 2"


class CommandFailed(Exception):
    """A command whose exit code is not 0; the text has the end of its output."""


def run(settings, name, *words, log=None):
    """Run a command as a user does; return its output, which a file ``log`` has too."""
    if settings.left < 5:
        raise Skipped("the time is nearly used up")
    command = [sys.executable, "-m", PROGRAMS[name], *(str(word) for word in words)]
    try:
        result = subprocess.run(
            command,
            cwd=REPOSITORY,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=min(settings.left, 100_000),
            preexec_fn=ending_with_us(),
        )
    except subprocess.TimeoutExpired:
        raise Skipped(f"{name} had not ended when the time was used up") from None
    if log is not None:
        Path(log).write_text(result.stdout, encoding="utf-8")
    if result.returncode != 0:
        end = " / ".join(result.stdout.strip().splitlines()[-4:])
        raise CommandFailed(f"{name} ended with exit code {result.returncode}: {end[-280:]}")
    return result.stdout


def environment():
    # a folder of packages that a machine without a network was given is in PYTHONPATH already
    paths = [str(REPOSITORY), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def data_bin(settings):
    """Return the corpus; without ``--data`` it is generated, once."""
    if settings.data is not None:
        return settings.data
    folder = Path(settings.work) / "corpus" / "data-bin"
    if not (folder / "done").exists():
        # here, for num2words and Babel are needed for it alone
        from admin_fairseq.experiments.corpus.numbers_and_dates import LANGUAGES, make_pairs

        train = 300 if settings.small else 8000
        folder.parent.mkdir(parents=True, exist_ok=True)
        for subset, pairs in make_pairs(1, {"test": 40, "valid": 100, "train": train}):
            for column, lang in enumerate(LANGUAGES):
                text = "".join(pair[column] + "\n" for pair in pairs)
                (folder.parent / f"{subset}.{lang}").write_text(text, encoding="utf-8")
        words = "-s en -t de --joined-dictionary --thresholdsrc 2 --thresholdtgt 2 --workers 1"
        prefixes = [f"--{name}pref={folder.parent / name}" for name in ("train", "valid", "test")]
        run(settings, "preprocess", *words.split(), *prefixes, "--destdir", folder)
        (folder / "done").touch()
    return str(folder)


def sizes(settings):
    size, dims = (SMALL_SIZE, SMALL_DIMS) if settings.small else (SIZE, DIMS)
    words = size.split()
    pairs = dims.split()
    for name, value in zip(pairs[::2], pairs[1::2]):
        words += [f"--encoder-{name}", value, f"--decoder-{name}", value]
    return words


def train(settings, folder, *flags, half="--fp16", log=None):
    """Run fairseq-train into a folder; on a GPU in half precision."""
    words = [data_bin(settings), "--user-dir", USER_DIR, "--save-dir", folder, *sizes(settings)]
    words += """
        --arch admin_transformer --optimizer adam --adam-betas (0.9,0.98) --lr 1e-3
        --lr-scheduler inverse_sqrt --warmup-init-lr 1e-7 --warmup-updates 50
        --criterion label_smoothed_cross_entropy --label-smoothing 0.1 --max-tokens 1024
        --num-workers 0 --seed 1 --log-format json
        --distributed-world-size 1 --no-epoch-checkpoints
        --skip-invalid-size-inputs-valid-test
    """.split()
    if joined(data_bin(settings)):
        words.append("--share-all-embeddings")
    if settings.small:
        words += ["--log-interval", "2", "--max-tokens", "256", "--warmup-updates", "2", "--cpu"]
        words += ["--lr", "1e-2"]
    else:
        words += ["--log-interval", "10", half]
    return run(settings, "train", *words, *flags, log=log)


def joined(folder):
    """Whether both languages have one dictionary."""
    found = [path.read_bytes() for path in sorted(Path(folder).glob("dict.*.txt"))]
    return len(found) == 2 and found[0] == found[1]


def updates(settings):
    """Updates until the checkpoint that a training is resumed from, within an epoch, and in all."""
    return (3, 8) if settings.small else (30, 60)


def folder_of(settings, name):
    return Path(settings.work) / name


def needed(path, of):
    if not path.exists():
        raise Skipped(f"it needs what {of} leaves, which is not there")
    return path


def first_record(log):
    """What was logged first of a training."""
    train, _ = read_log(log)
    if not train:
        raise CommandFailed(f"{log} has no update")
    return train[0]


def last_loss(log):
    """The validation loss in the end, in bits."""
    _, valid = read_log(log)
    if not valid:
        raise CommandFailed(f"{log} has no validation")
    return valid[-1]["loss"], valid[-1]["num_updates"]


def two_stages(settings):
    """Stage 1 and stage 2, with a checkpoint half way."""
    folder, log = folder_of(settings, "two"), folder_of(settings, "two.log")
    train(settings, folder, "--init-type", "adaptive-profiling")
    half, whole = updates(settings)
    flags = ["--init-type", "adaptive", "--max-update", whole, "--save-interval-updates", half]
    output = train(settings, folder, *flags, log=log)
    profile = profile_file.load(folder / "admin.profile")
    loss, last = last_loss(log)
    largest = max(profile.omega.values())
    first = first_record(log)["loss"]
    figure = f"loss {first:.2f} to {loss:.2f} bits at update {last}; omega up to {largest:.2f}"
    filled = re.search(r"omegas of (\d+) residual sites filled", output)
    passed = filled is not None and int(filled[1]) == len(profile.sites)
    passed = passed and last == whole and loss < first and largest > 1
    device = profile.provenance["device"]
    passed = passed and device == settings.device
    figure += f"; profile in {profile.provenance['precision']} on {device}"
    return Result("two stages", figure, passed, "all omegas filled, and the loss falls")


def auto(settings):
    """--init-type adaptive-auto is the two stages in one command."""
    profile = needed(folder_of(settings, "two") / "admin.profile", "two-stages")
    folder, log = folder_of(settings, "auto"), folder_of(settings, "auto.log")
    flags = ["--init-type", "adaptive-auto", "--max-update", updates(settings)[1]]
    train(settings, folder, *flags, log=log)
    two, one = (profile_file.load(path) for path in (profile, folder / "admin.profile"))
    off = max(abs(one.omega[name] / value - 1) for name, value in two.omega.items())
    losses = [last_loss(folder_of(settings, f"{name}.log"))[0] for name in ("auto", "two")]
    result = limited(
        "adaptive-auto against two stages, validation loss in the end, relative difference",
        abs(losses[0] / losses[1] - 1),
        0.02,
        f"omegas differ by {off:.1g}",
    )
    result.passed = result.passed and off <= 1e-3
    return result


def resume(settings):
    """Going on from a checkpoint, without its profile, is going on."""
    half, whole = updates(settings)
    found = sorted(folder_of(settings, "two").glob(f"checkpoint_*_{half}.pt"))
    needed(found[0] if found else folder_of(settings, "none"), "two-stages")
    log = folder_of(settings, "resumed.log")
    flags = ["--init-type", "adaptive", "--restore-file", found[0], "--max-update", whole]
    output = train(settings, folder_of(settings, "resumed"), *flags, log=log)
    losses = [last_loss(folder_of(settings, f"{name}.log"))[0] for name in ("resumed", "two")]
    result = limited(
        f"resumed at update {half}, against not stopped, validation loss, relative difference",
        abs(losses[0] / losses[1] - 1),
        0.02,
    )
    result.passed = result.passed and "no profile is read" in output
    result.passed = result.passed and first_record(log)["num_updates"] > half
    return result


def translations(settings, checkpoint, *flags):
    log = folder_of(settings, "generate.log")
    words = [data_bin(settings), "--path", checkpoint, "--beam", "4", "--max-len-a", "0"]
    words += ["--max-len-b", "20", "--batch-size", "32", "--skip-invalid-size-inputs-valid-test"]
    if settings.data is not None:
        words += ["--num-shards", "10", "--shard-id", "0"]  # a tenth of it
    run(settings, "generate", *words, *flags, log=log)
    return read_generation(log)[1]


def share(one, other):
    """The share of sentences that are not the same."""
    if not other or len(one) != len(other):
        return float("nan")
    return sum(map(str.__ne__, one, other)) / len(other)


def generate(settings):
    """Translations of the device against the CPU's, in float32."""
    checkpoint = needed(folder_of(settings, "two") / "checkpoint_last.pt", "two-stages")
    device = ["--cpu"] if settings.small else []
    ours = translations(settings, checkpoint, "--user-dir", USER_DIR, *device)
    theirs = translations(settings, checkpoint, "--user-dir", USER_DIR, "--cpu")
    return limited(
        "fairseq-generate against the CPU's, share of sentences that differ",
        share(ours, theirs),
        0.05,
        f"of {len(theirs)}, {len(set(theirs))} of them different",
    )


def generate_half(settings):
    """Translations in float16."""
    if settings.small:
        raise Skipped("fairseq-generate --fp16 needs a GPU")
    checkpoint = needed(folder_of(settings, "two") / "checkpoint_last.pt", "two-stages")
    half = translations(settings, checkpoint, "--user-dir", USER_DIR, "--fp16")
    full = translations(settings, checkpoint, "--user-dir", USER_DIR)
    return limited(
        "fairseq-generate --fp16 against float32, share of sentences that differ",
        share(half, full),
        0.25,
        f"of {len(full)}",
    )


def fold(settings):
    """A folded model translates without the plugin as the Admin model does."""
    checkpoint = needed(folder_of(settings, "two") / "checkpoint_last.pt", "two-stages")
    stock = folder_of(settings, "stock.pt")
    run(settings, "admin-fairseq", "fold", checkpoint, stock, "--safe", "--force")
    device = ["--cpu"] if settings.small else []
    folded = translations(settings, stock, *device)
    ours = translations(settings, checkpoint, "--user-dir", USER_DIR, *device)
    return limited(
        "folded, without the plugin, against Admin, share of sentences that differ",
        share(folded, ours),
        0.05,
        f"of {len(ours)}",
    )


# Multi30k's recipe at 18L-18L; on the generated corpus the learning rate of the quick start's
LEARNING = """
    --encoder-layers 18 --decoder-layers 18 --max-tokens 8192 --dropout 0.3
    --encoder-embed-dim 128 --encoder-ffn-embed-dim 256
    --decoder-embed-dim 128 --decoder-ffn-embed-dim 256 --lr 5e-3 --warmup-updates 2000
"""
GENERATED = "--max-tokens 2048 --lr 1e-3 --warmup-updates 300 --dropout 0.1"
FAST = "--criterion fused_label_smoothed_cross_entropy --optimizer fused_adam"
RUNS = {
    "Admin": "--init-type adaptive-auto",
    "Admin, faster": f"--init-type adaptive-auto {FAST}",
    "Post-LN": "--init-type default",
}


def learning(settings):
    """The first updates at 18L-18L: Admin, the same with the flags for speed, and Post-LN."""
    count = 12 if settings.small else 300
    flags = ["--no-save", "--max-update", str(count), "--disable-validation"]
    if not settings.small:
        flags = LEARNING.split() + (GENERATED.split() if settings.data is None else []) + flags
    lines, ends, starts = [], {}, {}
    for name, more in RUNS.items():
        slug = re.sub(r"\W+", "-", name.lower())
        log = folder_of(settings, f"learning-{slug}.log")
        try:
            words = [*flags, *more.split()]
            train(settings, folder_of(settings, slug), *words, half="--bf16", log=log)
        except (CommandFailed, Skipped) as error:
            lines.append(f"{name:<22} {error}")
            continue
        records = read_log(log)[0]
        losses = [record["loss"] for record in records]
        starts[name], ends[name] = losses[0], sum(losses[-3:]) / len(losses[-3:])
        speed = sorted(record["wps"] for record in records)[len(records) // 2]
        text = ", ".join(f"{loss:.2f}" for loss in losses[:: max(1, len(losses) // 6)])
        lines.append(
            f"{name:<22} loss {text}, in the end {ends[name]:.2f} bits; {speed:.0f} tokens/s"
        )
    passed = {"Admin", "Admin, faster"} <= set(ends)
    figure = "a run of Admin did not end"
    if passed:
        fall = starts["Admin"] - ends["Admin"]
        apart = abs(ends["Admin"] - ends["Admin, faster"])
        passed = fall > (0 if settings.small else 1) and apart <= 0.1 * max(fall, 1)
        figure = f"Admin's falls by {fall:.2f}, with the flags for speed {apart:.2g} from it"
    depth = "2L-2L" if settings.small else "18L-18L"
    corpus = "the generated corpus" if settings.data is None else settings.data
    return Result(
        f"loss of the first {count} updates at {depth} on {corpus}",
        figure,
        passed,
        "falls by a bit, and a tenth of that apart",
        lines,
    )
