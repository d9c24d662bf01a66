"""What Admin costs: a training step against fairseq's transformer, a traced one, peak memory.

Steps of the two models are timed in turn (A B, B A, A B, ...) on the same batch, and the ratio is
taken pair by pair, so that a machine whose speed drifts does not matter. On the CPU time is the
process's own, so that neighbours matter less. Peak memory, of a training step and of
profiling, is the growth of the resident set of a process of its own, on the CPU; on a GPU, torch's
own count.
"""

import argparse
import itertools
import multiprocessing
import resource
import statistics
import time

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from admin_fairseq import profile_omega
from admin_fairseq.trace import Tracer


def build(arch, args, **flags):
    words = Dictionary()
    for number in range(args.vocabulary - words.nspecial):
        words.add_symbol(str(number))
    task = TranslationTask(TranslationConfig(source_lang="en", target_lang="de"), words, words)
    values = dict(
        encoder_layers=args.layers,
        decoder_layers=args.layers,
        dropout=0.1,
        share_all_embeddings=True,
    )
    values.update(arch=arch, min_params_to_wrap=int(1e8), **flags)
    namespace = argparse.Namespace(**values)
    ARCH_CONFIG_REGISTRY[arch](namespace)
    torch.manual_seed(1)
    return ARCH_MODEL_REGISTRY[arch].build_model(namespace, task).to(args.device).train()


def admin(args):
    return build("admin_transformer", args, init_type="adaptive", admin_omega={})


def make_sample(args):
    tokens = torch.randint(4, args.vocabulary, (args.sentences, args.length), device=args.device)
    lengths = torch.full((args.sentences,), args.length, device=args.device)
    return {
        "net_input": {"src_tokens": tokens, "src_lengths": lengths, "prev_output_tokens": tokens}
    }


def make_step(model, sample, tracer=None):
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    updates = itertools.count()

    def step():
        update = next(updates)
        optimizer.zero_grad()
        if tracer:
            tracer.begin_step(model, sample, update)
        logits, _ = model(**sample["net_input"])
        torch.log_softmax(logits.float(), -1)[..., 0].mean().backward()
        if tracer:
            tracer.unhook()
            tracer.end_update(optimizer, update)
        optimizer.step()

    return step


def seconds(step, device):
    """Return what a step takes: wall time on a GPU, the process's own time on the CPU."""
    if device != "cuda":
        start = time.process_time()
        step()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def plain_pair(args, sample):
    """A training step of Admin, and of fairseq's transformer."""
    return make_step(admin(args), sample), make_step(build("transformer", args), sample)


def traced_pair(args, sample):
    """A training step of Admin that is traced and logged, and one that is not."""
    model = admin(args)
    return make_step(model, sample, Tracer(model, interval=1, log_interval=1)), make_step(
        model, sample
    )


def time_pairs(args, make_pair):
    steps = make_pair(args, make_sample(args))
    for step in steps:
        step()
    ratios = []
    for pair in range(args.pairs):
        order = steps if pair % 2 == 0 else steps[::-1]
        times = {step: seconds(step, args.device) for step in order}
        ratios.append(times[steps[0]] / times[steps[1]])
    return ratios


def peak_of(what, args, results):
    """Put the growth of memory while ``what`` runs into ``results``, in MiB."""
    torch.set_num_threads(args.threads)
    model, sample = admin(args), make_sample(args)
    run = make_step(model, sample) if what == "step" else lambda: profile_omega(model, sample)
    if args.device == "cuda":
        before = torch.cuda.memory_allocated()
        run()
        results.put((torch.cuda.max_memory_allocated() - before) / 2**20)
    else:
        with open("/proc/self/statm") as file:
            before = int(file.read().split()[1]) * resource.getpagesize() / 2**20
        run()
        results.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before)


def measure_peak(what, args):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=peak_of, args=(what, args, results))
    process.start()
    value = results.get()
    process.join()
    return value


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=31)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--sentences", type=int, default=16)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--vocabulary", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    print(
        f"torch {torch.__version__}, {args.device}, {args.threads} thread(s), "
        f"base dims (512/2048/8), {args.layers}-{args.layers}, "
        f"{args.sentences} x {args.length} tokens"
    )
    peaks = {what: measure_peak(what, args) for what in ("step", "profiling")}
    print(
        f"peak memory above the model: training step {peaks['step']:.0f} MiB, "
        f"profiling {peaks['profiling']:.0f} MiB "
        f"({100 * peaks['profiling'] / peaks['step']:.0f}%)"
    )
    for what, make_pair in (
        ("training step, admin_transformer / transformer", plain_pair),
        ("training step, traced and logged / not", traced_pair),
    ):
        ratios = sorted(time_pairs(args, make_pair))
        low, high = ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4]
        print(
            f"{what}, {len(ratios)} pairs: median {statistics.median(ratios):.3f}, "
            f"quartiles {low:.3f} to {high:.3f}, range {ratios[0]:.3f} to {ratios[-1]:.3f}"
        )


if __name__ == "__main__":
    main()
