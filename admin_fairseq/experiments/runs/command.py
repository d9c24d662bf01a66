"""The fairseq-train command of one run: recipe + settings -> words. Nothing is run here."""

import hashlib
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import admin_fairseq

from ...errors import AdminError, raise_all
from . import batch

# --init-type of train.sh -> flags of the plugin. pre-ln is fairseq's own; adaptive is profiled first.
INIT_TYPES = {
    "default": ["--init-type", "default"],
    "pre-ln": [
        "--init-type",
        "default",
        "--encoder-normalize-before",
        "--decoder-normalize-before",
    ],
    "adaptive": ["--init-type", "adaptive"],
    "analytic": ["--init-type", "analytic"],
    "deepnet": ["--init-type", "deepnet"],
    "rezero": ["--init-type", "rezero"],
    "rezero_postln": ["--init-type", "rezero_postln"],
    "looklinear": ["--init-type", "looklinear"],
}
USER_DIR = os.path.dirname(os.path.abspath(admin_fairseq.__file__))


@dataclass
class Settings:
    """What is chosen for one run beside its recipe."""

    init_type: str
    layers: str
    seed: int
    data: str
    cpu: bool = False
    processes: int = 1  # of all machines together
    nodes: int = 1
    max_tokens: int = 0  # 0: the recipe's
    tokens_per_update: int = 0  # 0: the recipe's
    no_warmup: bool = False
    lr: str = ""
    beta2: str = ""
    extra: list = field(default_factory=list)  # more flags of fairseq-train

    def variant(self):
        """Return what differs from the recipe, as text; empty where nothing does."""
        parts = ["no-warmup"] if self.no_warmup else []
        parts += [
            f"{name}={value}" for name, value in (("lr", self.lr), ("beta2", self.beta2)) if value
        ]
        parts += [f"tokens={self.tokens_per_update}"] if self.tokens_per_update else []
        return " ".join(parts + self.extra)

    def name(self):
        """Return the name of the run's folder."""
        variant = self.variant()
        short = "-".join(part.replace("=", "") for part in variant.split() if not self.extra)
        if self.extra:
            short = hashlib.sha256(variant.encode()).hexdigest()[:8]
        return f"{self.init_type}-{self.layers}-seed{self.seed}" + (f"-{short}" if short else "")

    def as_dict(self):
        return asdict(self)


def batch_of(recipe, settings):
    """Return the :class:`batch.Batch` of a run on its hardware."""
    factors = recipe.get("training", "tokens-per-update", settings.layers)
    wanted = 1
    for factor in factors:
        wanted *= factor
    default = factors[1] if len(factors) > 1 else factors[0]
    wanted = settings.tokens_per_update or wanted
    share = max(
        1, wanted // settings.processes
    )  # more devices than the paper had see smaller batches
    return batch.plan(wanted, settings.processes, settings.max_tokens or min(default, share))


def check(recipe, settings):
    """Refuse settings that cannot be trained.

    Raises:
        AdminError: naming every one.
    """
    problems = []
    if settings.init_type not in INIT_TYPES:
        problems.append(
            f"--init-type {settings.init_type}: known are {', '.join(INIT_TYPES)} (adaptive profiles first)"
        )
    for key in ("no-warmup-updates",):
        if settings.no_warmup and recipe.get("training", key) is None:
            problems.append(f"--no-warmup: the recipe has no {key}")
    data_bin = Path(settings.data) / "data-bin"
    missing = [
        name
        for name in (f"dict.{recipe.source}.txt", f"dict.{recipe.target}.txt")
        if not (data_bin / name).is_file()
    ]
    if missing:
        problems.append(
            f"--data {settings.data}: {data_bin} has no {' and no '.join(missing)}; prepare the data first"
        )
    reserved = {
        "--init-type",
        "--seed",
        "--save-dir",
        "--update-freq",
        "--max-tokens",
        "--encoder-layers",
        "--decoder-layers",
        "--admin-profile",
        "--restore-file",
        "--log-format",
        "--log-file",
    }
    problems += [
        f"{word}: train.sh sets it itself; use its own flag, where it has one"
        for word in settings.extra
        if word.split("=")[0] in reserved
    ]
    raise_all("these settings cannot be trained:", problems)


def dictionaries(recipe, data):
    """Return a digest of a data-bin's dictionaries, by which another corpus is told; None if one is not there."""
    digest = hashlib.sha256()
    try:
        for lang in (recipe.source, recipe.target):
            digest.update((Path(data) / "data-bin" / f"dict.{lang}.txt").read_bytes())
    except OSError:
        return None
    return digest.hexdigest()[:16]


def model_flags(recipe, settings):
    """Return the flags that make the model, the loss and the first batch: all that a profile depends on."""
    get = lambda key: recipe.get("model", key, settings.layers)  # noqa: E731
    embed, ffn, heads = get("dims")
    encoder, decoder = settings.layers.split("-")
    flags = [
        "--arch",
        get("arch"),
        "--share-all-embeddings",
        "--encoder-layers",
        encoder,
        "--decoder-layers",
        decoder,
    ]
    for stack in ("encoder", "decoder"):
        flags += [
            f"--{stack}-embed-dim",
            embed,
            f"--{stack}-ffn-embed-dim",
            ffn,
            f"--{stack}-attention-heads",
            heads,
        ]
    for key in ("dropout", "attention-dropout", "activation-dropout"):
        flags += [f"--{key}", get(key)]
    if get("xavier-ffn"):
        flags.append("--xavier-ffn")
    smoothing = recipe.get("training", "label-smoothing", settings.layers)
    flags += ["--criterion", "label_smoothed_cross_entropy", "--label-smoothing", smoothing]
    return flags


def training_flags(recipe, settings):
    """Return the flags of optimizer, schedule and length."""
    get = lambda key: recipe.get("training", key, settings.layers)  # noqa: E731
    beta1, beta2 = get("betas")
    lr = settings.lr or get("lr")
    flags = [
        "--optimizer",
        get("optimizer"),
        "--adam-betas",
        f"({beta1}, {settings.beta2 or beta2})",
    ]
    flags += ["--weight-decay", get("weight-decay"), "--clip-norm", get("clip-norm"), "--lr", lr]
    if settings.no_warmup:
        updates = get("no-warmup-updates")
        flags += [
            "--lr-scheduler",
            "polynomial_decay",
            "--warmup-updates",
            1,
            "--total-num-update",
            updates,
        ]
        return flags + ["--max-update", updates]
    flags += [
        "--lr-scheduler",
        "inverse_sqrt",
        "--warmup-init-lr",
        "1e-07",
        "--warmup-updates",
        get("warmup"),
    ]
    if get("epochs"):
        flags += ["--max-epoch", get("epochs")]
    if get("updates"):
        flags += ["--max-update", get("updates")]
    return flags


def machine_flags(settings):
    """Return the flags of device and precision. fp16 as in the papers; their floor of the loss scale, 2^-5, too."""
    if settings.cpu:
        flags = ["--cpu"]
        if settings.processes > 1:
            flags += ["--ddp-backend", "legacy_ddp", "--distributed-backend", "gloo"]
        return flags
    return ["--fp16", "--fp16-scale-window", 256, "--threshold-loss-scale", 0.03125]


def fairseq_train(recipe, settings, save_dir, profile=None, stage="train"):
    """Return the words of a fairseq-train command.

    Args:
        stage: ``train``, or ``profile``, which is one process and one batch, with the profile's seed.
        profile: the profile to write or read, for init type ``adaptive``.
    """
    planned = batch_of(recipe, settings)
    init_type = INIT_TYPES[settings.init_type]
    seed = settings.seed
    flags = [*model_flags(recipe, settings), *training_flags(recipe, settings)]
    if stage == "profile":
        init_type, seed = (
            ["--init-type", "adaptive-profiling"],
            recipe.get("training", "profile-seed"),
        )
        device = machine_flags(Settings(**{**settings.as_dict(), "processes": 1}))
    else:
        device = machine_flags(settings)
    words = [
        "fairseq-train",
        Path(settings.data) / "data-bin",
        "-s",
        recipe.source,
        "-t",
        recipe.target,
    ]
    words += ["--user-dir", USER_DIR, *flags, *init_type, "--seed", seed]
    words += [
        "--max-tokens",
        planned.max_tokens,
        "--update-freq",
        planned.update_freq if stage == "train" else 1,
    ]
    words += [*device, "--keep-last-epochs", recipe.get("evaluation", "average", settings.layers)]
    words += ["--no-progress-bar", "--log-format", "json", "--log-interval", 100]
    # else fairseq orders sentences of equal length by the epoch in which a process was started: a resumed training
    # would see other batches than an undisturbed one
    words += ["--update-epoch-batch-itr", True]
    words += [*settings.extra, "--save-dir", save_dir]
    words += ["--admin-profile", profile] if profile else []
    return [str(word) for word in words]


def profile_name(recipe, settings):
    """Return the name of the profile that runs of this model share: depth, and a digest of what it depends on."""
    facts = [
        model_flags(recipe, settings),
        settings.data,
        batch_of(recipe, settings).max_tokens,
        settings.cpu,
    ]
    facts += [
        recipe.get("training", "profile-seed"),
        settings.extra,
        dictionaries(recipe, settings.data),
    ]
    return f"{settings.layers}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:8]}.profile"


def distributed(words, settings, node_rank=0, master=""):
    """Return ``words`` run by torchrun, one process a device, on all machines; as they are for one process.

    Raises:
        AdminError: if several machines are to work together and none is named as their master.
    """
    if settings.processes == 1:
        return words
    per_node = settings.processes // settings.nodes
    if settings.nodes > 1:
        host, colon, port = master.rpartition(":")
        if not (host and colon and port.isdigit()):
            raise AdminError(
                f"--master {master or '(not given)'}: several machines want the HOST:PORT of one of them"
            )
        rendezvous = [
            "--nnodes",
            settings.nodes,
            "--node-rank",
            node_rank,
            "--master-addr",
            host,
            "--master-port",
            port,
        ]
    else:
        rendezvous = ["--standalone"]
    launcher = ["torchrun", *rendezvous, "--nproc-per-node", per_node, "--no-python"]
    launched = ["bash", "-c", 'exec "$@" --distributed-rank "$RANK"', "bash", *words]
    launched += [
        "--distributed-init-method",
        "env://",
        "--distributed-world-size",
        settings.processes,
    ]
    return [str(word) for word in [*launcher, *launched, "--distributed-no-spawn"]]
