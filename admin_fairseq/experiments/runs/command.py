"""The fairseq-train command of one run: recipe + settings -> words. Nothing is run here."""

import hashlib
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional, Union

from ...errors import AdminError
from ...init_types import find_method
from ..processes import find_command
from ..recipe import Recipe
from . import batch
from .settings import Settings

# the package's folder, whatever it is called: fairseq imports it as a user-dir
USER_DIR = str(Path(__file__).resolve().parents[2])
Words = list[Any]


def batch_of(recipe: Recipe, settings: Settings) -> batch.Batch:
    """Return the batch of a run on its hardware."""
    factors = recipe.get("training", "tokens-per-update", settings.layers)
    wanted = settings.tokens_per_update or math.prod(factors)
    # more devices than the paper had see smaller batches
    share = max(1, wanted // settings.processes)
    default = min(_of_one_device(factors), share)
    return batch.plan(wanted, settings.processes, settings.max_tokens or default)


def profile_tokens(recipe: Recipe, settings: Settings) -> int:
    """Return the tokens of the batch that is profiled: the paper's, whatever the machine."""
    factors = recipe.get("training", "tokens-per-update", settings.layers)
    return min(_of_one_device(factors), settings.tokens_per_update or math.prod(factors))


def _of_one_device(factors: list[int]) -> int:
    return factors[1] if len(factors) > 1 else factors[0]


def dictionaries(recipe: Recipe, data: Union[str, Path]) -> Optional[str]:
    """Return a digest of a data-bin's dictionaries; None if one is missing.

    By it another corpus in the same place is noticed.
    """
    digest = hashlib.sha256()
    try:
        for lang in (recipe.source, recipe.target):
            digest.update((Path(data) / "data-bin" / f"dict.{lang}.txt").read_bytes())
    except OSError:
        return None
    return digest.hexdigest()[:16]


def model_flags(recipe: Recipe, settings: Settings, stage: str = "train") -> Words:
    """Return the flags of model and loss, of ``train`` or of ``profile``.

    Those of ``profile`` are all that a profile depends on, beside its batch.
    """

    def get(key: str) -> Any:
        return recipe.get("model", key, settings.layers)

    embed, ffn, heads = get("dims")
    encoder, decoder = settings.layers.split("-")
    flags: Words = ["--arch", get("arch"), "--share-all-embeddings"]
    flags += ["--encoder-layers", encoder, "--decoder-layers", decoder]
    for stack in ("encoder", "decoder"):
        flags += [f"--{stack}-embed-dim", embed, f"--{stack}-ffn-embed-dim", ffn]
        flags += [f"--{stack}-attention-heads", heads]
    of_profile = get("profile-dropout") if stage == "profile" else None
    flags += ["--dropout", get("dropout") if of_profile is None else of_profile]
    for key in ("attention-dropout", "activation-dropout"):
        flags += [f"--{key}", get(key)]
    for key in ("xavier-ffn", "zero-qkv-bias"):
        if get(key):
            flags.append(f"--{key}")
    criterion = "label_smoothed_cross_entropy"
    if is_fast(recipe, settings):
        flags.append("--fused-layers")
        criterion = f"fused_{criterion}"
    smoothing = recipe.get("training", "label-smoothing", settings.layers)
    return [*flags, "--criterion", criterion, "--label-smoothing", smoothing]


def is_fast(recipe: Recipe, settings: Settings) -> bool:
    """Whether a run takes the plugin's fast criterion, optimizer and layers."""
    of_recipe = bool(recipe.get("training", "fast", settings.layers))
    return of_recipe if settings.fast is None else settings.fast


def training_flags(recipe: Recipe, settings: Settings) -> Words:
    """Return the flags of optimizer, schedule and length."""

    def get(key: str) -> Any:
        return recipe.get("training", key, settings.layers)

    beta1, beta2 = get("betas")
    optimizer = get("optimizer")
    # radam works over lists of tensors by itself
    if optimizer == "adam" and is_fast(recipe, settings):
        optimizer = "fused_adam"
    flags: Words = ["--optimizer", optimizer]
    flags += ["--adam-betas", f"({beta1}, {settings.beta2 or beta2})"]
    flags += ["--weight-decay", get("weight-decay"), "--clip-norm", get("clip-norm")]
    flags += ["--lr", settings.lr or get("lr")]
    if settings.no_warmup:
        updates = settings.updates or get("no-warmup-updates")
        flags += ["--lr-scheduler", "polynomial_decay", "--warmup-updates", 1]
        return [*flags, "--total-num-update", updates, "--max-update", updates]
    flags += ["--lr-scheduler", "inverse_sqrt", "--warmup-init-lr", "1e-07"]
    flags += ["--warmup-updates", get("warmup")]
    if settings.updates:
        return [*flags, "--max-update", settings.updates]
    if get("epochs"):
        flags += ["--max-epoch", get("epochs")]
    if get("updates"):
        flags += ["--max-update", get("updates")]
    return flags


def machine_flags(settings: Settings) -> Words:
    """Return the flags of device and precision.

    fp16 as in the papers; their floor of the loss scale, 2^-5, too.
    """
    if not settings.cpu:
        return ["--fp16", "--fp16-scale-window", 256, "--threshold-loss-scale", 0.03125]
    flags: Words = ["--cpu"]
    if settings.processes > 1:
        flags += ["--ddp-backend", "legacy_ddp", "--distributed-backend", "gloo"]
    return flags


def saving_flags(recipe: Recipe, settings: Settings) -> Words:
    """Return the flags of validation, checkpoints and log.

    A recipe with ``save-every`` keeps checkpoints by updates, none by epochs; one with
    ``checkpoint-every`` keeps those of epochs, and the last one by updates beside them.
    """

    def get(key: str) -> Any:
        return recipe.get("training", key, settings.layers)

    average = recipe.get("evaluation", "average", settings.layers)
    flags: Words = []
    if get("workers") is not None:
        flags += ["--num-workers", get("workers")]
    if get("validate-every"):
        flags += ["--validate-interval-updates", get("validate-every")]
    if get("save-every"):
        flags += ["--save-interval-updates", get("save-every")]
        flags += ["--keep-interval-updates", average, "--no-epoch-checkpoints"]
    else:
        if get("checkpoint-every"):
            flags += ["--save-interval-updates", get("checkpoint-every")]
            flags += ["--keep-interval-updates", 1]
        flags += ["--keep-last-epochs", average]
    flags += ["--no-progress-bar", "--log-format", "json"]
    flags += ["--log-interval", get("log-every") or 100]
    return flags


def profile_seed(recipe: Recipe, settings: Settings) -> int:
    """Return the seed of a run's profile: the recipe's, or else the run's own."""
    seed = recipe.get("training", "profile-seed", settings.layers)
    return settings.seed if seed is None else int(seed)


def fairseq_train(
    recipe: Recipe,
    settings: Settings,
    save_dir: Union[str, Path],
    profile: Union[str, Path, None] = None,
    stage: str = "train",
) -> list[str]:
    """Return the words of a fairseq-train command.

    Args:
        recipe: the recipe.
        settings: what is chosen beside it.
        save_dir: the folder of the checkpoints.
        profile: the profile to write or read, for methods that need one.
        stage: ``train``, or ``profile``, which is one process and one batch, with the profile's
            seed and the paper's batch.
    """
    planned = batch_of(recipe, settings)
    device, seed = settings, settings.seed
    max_tokens, update_freq = planned.max_tokens, planned.update_freq
    init_type = find_method(settings.init_type).train_flags
    if stage == "profile":
        device, seed = replace(settings, processes=1), profile_seed(recipe, settings)
        max_tokens, update_freq = profile_tokens(recipe, settings), 1
        init_type = ["--init-type", "adaptive-profiling"]
    words: Words = ["fairseq-train", Path(settings.data) / "data-bin"]
    words += ["-s", recipe.source, "-t", recipe.target, "--user-dir", USER_DIR]
    words += [*model_flags(recipe, settings, stage), *training_flags(recipe, settings)]
    words += [*init_type, "--seed", seed]
    words += ["--max-tokens", max_tokens, "--update-freq", update_freq]
    words += [*machine_flags(device), *saving_flags(recipe, settings)]
    # else fairseq orders sentences of equal length by the epoch in which a process was started:
    # a resumed training would see other batches than an undisturbed one
    words += ["--update-epoch-batch-itr", True]
    words += [*settings.extra, "--save-dir", save_dir]
    if profile:
        words += ["--admin-profile", profile]
    return [str(word) for word in words]


def profile_name(recipe: Recipe, settings: Settings) -> str:
    """Return the name of the profile that runs of this model share.

    It is the depth, and a digest of all that the profile depends on.
    """
    facts = [
        model_flags(recipe, settings, "profile"),
        settings.data,
        profile_tokens(recipe, settings),
        settings.cpu,
        profile_seed(recipe, settings),
        settings.extra,
        dictionaries(recipe, settings.data),
    ]
    return f"{settings.layers}-{hashlib.sha256(repr(facts).encode()).hexdigest()[:8]}.profile"


def profile_of(recipe: Recipe, settings: Settings, folder: Path) -> Optional[Path]:
    """Return the path of a run's profile: the one that was named, or else beside its folder.

    None for methods without one.
    """
    if not find_method(settings.init_type).needs_profile:
        return None
    if settings.profile:
        return Path(settings.profile.replace("{seed}", str(settings.seed)))
    return folder.parent / "profiles" / profile_name(recipe, settings)


def distributed(
    words: list[str], settings: Settings, node_rank: int = 0, master: str = ""
) -> list[str]:
    """Return ``words`` run by torchrun, one process a device, on all machines.

    A single process is started as it is.

    Raises:
        AdminError: if several machines are to work together and none is named as their master.
    """
    if settings.processes == 1:
        return words
    rendezvous: Words = ["--standalone"]
    if settings.nodes > 1:
        host, colon, port = master.rpartition(":")
        if not (host and colon and port.isdigit()):
            raise AdminError(
                f"--master {master or '(not given)'}: must be the HOST:PORT of one of the machines"
            )
        rendezvous = ["--nnodes", settings.nodes, "--node-rank", node_rank]
        rendezvous += ["--master-addr", host, "--master-port", port]
    launcher = ["torchrun", *rendezvous, "--nproc-per-node", settings.per_node, "--no-python"]
    launched: Words = ["bash", "-c", 'exec "$@" --distributed-rank "$RANK"', "bash", *words]
    launched += ["--distributed-init-method", "env://"]
    launched += ["--distributed-world-size", settings.processes, "--distributed-no-spawn"]
    return [str(word) for word in [*launcher, *launched]]


def with_paths(words: list[str]) -> list[str]:
    """Return a command with the paths of the tools of this environment in it.

    run.json and ``--dry-run`` have them by name: there an environment may move.
    """
    found = []
    for word in words:
        is_tool = word in ("fairseq-train", "fairseq-generate", "torchrun", "admin-fairseq")
        found.append(find_command(word) if is_tool else word)
    return found
