"""Checks of numbers: profiles, bits with omega = 1, the authors' recordings, losses, optimizers."""

import numpy as np
import torch
from fairseq import optim
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss

from admin_fairseq.fused_loss import fused_loss
from admin_fairseq.profile.measure import profile_omega
from scripts.measure_speed import step
from tests import parity
from tests.gpu.settings import Result, limited
from tests.gpu.trainers import (
    ADMIN,
    CRITERION,
    PRECISIONS,
    SHAPES,
    STOCK,
    TYPES_OF_WEIGHTS,
    autocast,
    check_precision,
    free_memory,
    make_sample,
    make_trainer,
)
from tests.helpers import adaptive, batch, build, task, to_device
from tests.test_adam import config

# largest relative difference of an omega to that of float32 on the CPU
PROFILE_LIMITS = {"fp32": 1e-4, "fp16": 2e-3, "bf16": 2e-3, "amp": 2e-3}


def profile(settings, precision):
    """Omegas as they are measured in a precision, against float32 on the CPU."""
    check_precision(settings, precision)
    kinds = [((3, 2), 32)] if settings.small else [((60, 12), 64), ((18, 18), 512)]
    worst = {}
    for layers, dim in kinds:
        model = adaptive(layers=layers, dim=dim)
        sample = batch(sentences=8, source_length=20, target_length=20)
        exact = omegas_of(profile_omega(model, sample))
        model = model.to(settings.device, TYPES_OF_WEIGHTS.get(precision, torch.float32))
        with autocast(settings, precision):
            found = omegas_of(profile_omega(model, to_device(sample, settings.device)))
        worst[f"{layers[0]}-{layers[1]} C {dim}"] = float(np.abs(found / exact - 1).max())
    return limited(
        f"omegas in {precision}, against float32 on the CPU, largest relative difference",
        max(worst.values()),
        PROFILE_LIMITS[precision],
        ", ".join(f"{name} {value:.2g}" for name, value in worst.items()),
    )


def omegas_of(found):
    return np.array(list(found.omega.values()))


def recorded_omegas(settings):
    """The authors' omegas on their weights and batches, padding counted as they do."""
    data = parity.read("mini_admin_2-3")
    model = parity.make(data, ["sd0"]).to(settings.device)
    worst = 0.0
    for name in parity.BATCHES:
        sample = to_device(parity.sample(data, name), settings.device)
        found = profile_omega(model, sample, count_padding=True)
        for stack, short in (("encoder", "enc"), ("decoder", "dec")):
            exact = data[f"{name}/omega_{short}"]
            ours = np.array(parity.omegas(found, stack))
            worst = max(worst, float(np.abs(ours / exact - 1).max()))
    return limited("omegas, against the authors', largest relative difference", worst, 1e-4)


def recorded_outputs(settings):
    """The authors' outputs with their omegas."""
    data = parity.read("mini_admin_2-3")
    model = parity.make(data, ["sd0", "sd2_ratio"]).to(settings.device).eval()
    worst = 0.0
    for name in parity.BATCHES:
        net_input = to_device(parity.sample(data, name)["net_input"], settings.device)
        with torch.no_grad():
            logits = model(**net_input)[0].cpu().numpy()
        worst = max(worst, float(np.abs(logits - data[f"stage2/{name}/logits"]).max()))
    return limited("logits, against the authors', largest difference", worst, 1e-4)


def identity(settings, precision, omega=1.0):
    """With omega = 1 logits and gradients are fairseq's, to the bit.

    Sums of a GPU may be taken in another order each time: torch is told to keep to one, and what
    fairseq itself does not repeat is not compared.

    Args:
        omega: another value shows that the check can fail.
    """
    check_precision(settings, precision)
    layers, dim, types = ((2, 2), 32, 100) if settings.small else ((6, 6), 512, 2000)
    flags = dict(on_task=task(types), layers=layers, dim=dim, share_all_embeddings=True)
    flags.update(encoder_attention_heads=4, decoder_attention_heads=4, dropout=0.1)
    stock = build("transformer", **flags)
    ours = adaptive(omegas=[omega] * (2 * layers[0] + 3 * layers[1]), **flags)
    sample = to_device(batch(types, 8, 20, 18), settings.device)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        one, again, other = (
            outputs(settings, precision, model, sample) for model in (stock, stock, ours)
        )
    finally:
        torch.use_deterministic_algorithms(False)
    repeated = [name for name, value in one.items() if torch.equal(value, again[name])]
    differing = [name for name in repeated if not torch.equal(one[name], other[name])]
    finite = all(bool(value.isfinite().all()) for value in one.values())
    unsure = len(one) - len(repeated)
    figure = f"{len(differing)} of {len(repeated)} tensors differ"
    if unsure:
        figure += f", {unsure} not compared: fairseq does not repeat them itself"
    if not finite:
        figure += "; not all numbers are finite"
    passed = finite and not differing and len(repeated) > len(one) / 2
    compared = f"with omega = 1 in {precision}: logits and gradients, against fairseq's, in bits"
    return Result(compared, figure, passed, "none", differing[:8])


def outputs(settings, precision, model, sample):
    """Logits in training and evaluation, and all gradients, by name."""
    model = model.to(settings.device, TYPES_OF_WEIGHTS.get(precision, torch.float32)).train()
    model.zero_grad()
    torch.manual_seed(3)
    with autocast(settings, precision):
        logits = model(**sample["net_input"])[0]
        log_probs = torch.log_softmax(logits, -1, dtype=torch.float32)
        loss = label_smoothed_nll_loss(log_probs, sample["target"], 0.1, 1)[0]
    loss.backward()
    model.eval()
    with torch.no_grad(), autocast(settings, precision):
        evaluated = model(**sample["net_input"])[0]
    found = {"logits": logits.detach(), "logits in evaluation": evaluated}
    for name, weight in model.named_parameters():
        if weight.grad is not None and not name.endswith(".omega"):
            found[name] = weight.grad.clone()
    return found


def loss(settings, precision):
    """The fused loss and fairseq's, both against float64: ours must not be much further off."""
    check_precision(settings, precision)
    positions, types, channels = (60, 300, 32) if settings.small else (1500, 10_000, 512)
    generator = torch.Generator().manual_seed(1)
    dtype = TYPES_OF_WEIGHTS.get(precision, torch.float32)
    inputs = []
    for rows in (positions, types):
        values = 0.1 * torch.randn(rows, channels, generator=generator)
        inputs.append(values.to(settings.device, dtype).requires_grad_())
    target = torch.randint(types, (positions,), generator=generator).to(settings.device)
    # the gradient of a loss that is scaled, as it is with --fp16 and --amp
    scale = 128.0 if precision in ("fp16", "amp") else 1.0
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    reference = loss_and_gradients(fairseqs_loss(*exact, target, torch.float64), exact, scale)
    with autocast(settings, precision):
        ours = fused_loss(*inputs, target, 0.1, rows=positions // 3).loss
        theirs = fairseqs_loss(*inputs, target, torch.float32)
    found = [loss_and_gradients(value, inputs, scale) for value in (ours, theirs)]
    lines, passed = [], True
    for number, name in enumerate(("value", "gradient of features", "gradient of weights")):
        one, other = (distance(values[number], reference[number]) for values in found)
        passed = passed and bool(one <= 2 * other + 1e-6)
        lines.append(f"{name} {one:.2g}, fairseq's {other:.2g}")
    compared = f"fused loss in {precision}, relative distance to float64"
    return Result(compared, "; ".join(lines), passed, "at most twice fairseq's and 1e-6")


def fairseqs_loss(features, weight, target, wide):
    logits = torch.nn.functional.linear(features, weight)
    return label_smoothed_nll_loss(torch.log_softmax(logits, -1, dtype=wide), target, 0.1)[0]


def loss_and_gradients(value, inputs, scale):
    gradients = torch.autograd.grad(value, inputs, torch.full_like(value, scale))
    return (value.detach(), *gradients)


def distance(one, other):
    """The norm of a difference by the norm of the second."""
    return float((one.double() - other.double()).norm() / other.double().norm())


# of what ten updates change
ADAM_LIMITS = {"fp32": 1e-5, "fp16": 2e-3, "bf16": 1e-2, "memory-efficient-bf16": 3e-2}


def adam(settings, precision):
    """Our optimizers against fairseq's on the same gradients, in fairseq's wrappers."""
    check_precision(settings, precision)
    moved = {}
    for name in ("adam", "multi_tensor_adam", "fused_adam"):
        moved[name] = updated(settings, precision, name)
    start, theirs = moved["adam"]
    change = torch.cat([(a - b).flatten() for a, b in zip(theirs, start)]).norm()
    worst = {}
    for name in ("multi_tensor_adam", "fused_adam"):
        off = torch.cat([(a - b).flatten() for a, b in zip(moved[name][1], theirs)]).norm()
        worst[name] = float(off / change)
    return limited(
        f"ten updates of Adam in {precision}, against fairseq's, part of the change",
        max(worst.values()),
        ADAM_LIMITS[precision],
        ", ".join(f"{name} {value:.2g}" for name, value in worst.items()),
    )


def updated(settings, precision, name):
    """Weights before and after ten updates with given gradients, in float32."""
    shapes = [(300, 40), (40,), (9, 7)]
    if not settings.small:  # the first is larger than a bucket
        shapes = [(36_000, 512), (2048, 512), (512, 512), (512, 512), (512,)]
    generator = torch.Generator().manual_seed(1)
    dtype = TYPES_OF_WEIGHTS.get(precision.rpartition("-")[2], torch.float32)
    params, gradients = [], []
    for shape in shapes:
        weight = 0.05 * torch.randn(shape, generator=generator)
        params.append(torch.nn.Parameter(weight.to(settings.device, dtype)))
        gradients.append(0.01 * torch.randn(shape, generator=generator).to(settings.device))
    start = [param.detach().float().clone() for param in params]
    halves = {"bf16": "bf16" in precision, "fp16_no_flatten_grads": False, "fp16_init_scale": 1}
    if precision == "fp32":
        optimizer = optim.build_optimizer(config(name).optimizer, params)
    elif precision.startswith("memory-efficient"):
        optimizer = optim.MemoryEfficientFP16Optimizer.build_optimizer(
            config(name, **halves), params
        )
    else:
        optimizer = optim.FP16Optimizer.build_optimizer(config(name, **halves), params)
    for number in range(10):
        optimizer.zero_grad()
        for param, gradient in zip(params, gradients):
            param.grad = (gradient * (1 + number % 3)).to(param.dtype)
        optimizer._needs_sync = True  # as backward() leaves it
        optimizer.multiply_grads(0.5)
        optimizer.clip_grad_norm(1.0)
        optimizer.step()
    return start, [param.detach().float() for param in params]


# difference of the losses in the end, by what the loss has fallen
TRAINING_LIMITS = {"fp32": 1e-3, "fp16": 3e-2, "bf16": 3e-2, "amp": 3e-2}


def training(settings, precision):
    """Updates with the criterion and the optimizers for speed, against fairseq's, on one model."""
    check_precision(settings, precision)
    shape = SHAPES["tiny" if settings.small else "shallow"]
    common = f"{STOCK} {ADMIN} {PRECISIONS[precision]} --lr 1e-3 --dropout 0 --clip-norm 1"
    variants = {
        "fairseq's": "",
        "multi_tensor_adam": "--optimizer multi_tensor_adam",
        "fused_adam": "--optimizer fused_adam",
        "criterion": CRITERION,
        "criterion and fused_adam": f"{CRITERION} --optimizer fused_adam",
    }
    sample = make_sample(shape, padding=True)
    losses = {}
    for name, flags in variants.items():
        trainer = make_trainer(settings, shape, common, flags)
        before = loss_of(trainer, sample)
        for _ in range(8):
            step(trainer, sample)
        losses[name] = loss_of(trainer, sample)
    theirs = losses.pop("fairseq's")
    off = {name: abs(value - theirs) / (before - theirs) for name, value in losses.items()}
    free_memory(settings.device)
    result = limited(
        f"loss after eight updates in {precision}, against fairseq's, part of its fall",
        max(off.values()),
        TRAINING_LIMITS[precision],
        f"from {before:.3f} to {theirs:.3f} a token; "
        + ", ".join(f"{name} {value:.2g}" for name, value in off.items()),
    )
    result.passed = result.passed and theirs < before - 0.05
    return result


def amp_scale(settings):
    """What part of the gradients fairseq's --amp hands to the optimizer.

    Its wrapper has torch's scaler take the loss's scale out of them twice: by the name of the
    optimizer, and by that of the wrapper around it. Adam forgives all but what is lost in epsilon.
    """
    check_precision(settings, "amp")
    shape, norms = SHAPES["shallow"], {}
    for precision in ("fp32", "amp"):
        flags = f"{STOCK} {PRECISIONS[precision]} --dropout 0"
        trainer = make_trainer(settings, shape, flags)
        step(trainer, make_sample(shape))
        gradients = [weight.grad for weight in trainer.model.parameters()]
        norms[precision] = float(torch.stack([gradient.norm() for gradient in gradients]).norm())
    part = norms["amp"] / norms["fp32"]
    return Result("gradients that --amp steps with, by those of fp32, fairseq's own", f"{part:.4g}")


def loss_of(trainer, sample):
    """The loss of a batch in evaluation, in nats a token."""
    sample = trainer._prepare_sample(sample)[0]
    trainer.model.eval()
    with torch.no_grad():
        loss = trainer.criterion(trainer.model, sample)[0]
    return float(loss) / sample["ntokens"]
