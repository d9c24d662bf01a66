"""A slow Transformer in numpy, float64, one sentence at a time: what Admin says, and nothing else.

It reads a fairseq state dict, knows no padding (sentences come without), no batch and no hooks, and
computes omega by the definition: run everything below a site first, then take variances.
"""

import numpy as np


def sinusoids(positions, dim, padding_idx=1):
    """fairseq's sinusoids, sines then cosines; the first token has number padding_idx + 1."""
    half = dim // 2
    rates = np.exp(-np.arange(half) * np.log(10000) / (half - 1))
    angles = (np.arange(positions) + padding_idx + 1)[:, None] * rates[None]
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def layer_norm(x, w, name):
    centred = x - x.mean(-1, keepdims=True)
    return (
        centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[name + ".weight"]
        + w[name + ".bias"]
    )


def linear(x, w, name):
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def attention(x, memory, w, name, heads, causal=False):
    """x: T x C, memory: S x C -> T x C."""
    q, k, v = (
        linear(x, w, name + ".q_proj"),
        linear(memory, w, name + ".k_proj"),
        linear(memory, w, name + ".v_proj"),
    )
    size = q.shape[1] // heads
    out = np.zeros_like(q)
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        scores = q[:, part] @ k[:, part].T / np.sqrt(size)
        if causal:
            scores[np.triu_indices(len(scores), 1)] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, part] = weights / weights.sum(-1, keepdims=True) @ v[:, part]
    return linear(out, w, name + ".out_proj")


def feed_forward(x, w, name):
    return linear(np.maximum(linear(x, w, name + ".fc1"), 0), w, name + ".fc2")


def run_stack(stack, xs, w, layers, heads, memories=None, omegas=None):
    """Run a Post-LN stack over sentences; with ``omegas`` None, set them by Admin's recursion.

    Returns (outputs, one T x C array per sentence; {site: omega}).
    """
    measured, square = {}, 1.0
    for i in range(layers):
        name = f"{stack}.layers.{i}"
        branches = [
            (
                "self_attn",
                "self_attn_layer_norm",
                lambda x, m, n=name: attention(x, x, w, n + ".self_attn", heads, m is not None),
            ),
            (
                "encoder_attn",
                "encoder_attn_layer_norm",
                lambda x, m, n=name: attention(x, m, w, n + ".encoder_attn", heads),
            ),
            ("ffn", "final_layer_norm", lambda x, m, n=name: feed_forward(x, w, n)),
        ]
        for kind, norm, branch in branches:
            if kind == "encoder_attn" and memories is None:
                continue
            site = f"{name}.{kind}_residual"
            omega = measured[site] = np.sqrt(square) if omegas is None else omegas[site]
            outs = [branch(x, m) for x, m in zip(xs, memories or [None] * len(xs))]
            square = np.var(np.concatenate(outs)) + np.var(omega * np.concatenate(xs))
            xs = [layer_norm(f + omega * x, w, f"{name}.{norm}") for f, x in zip(outs, xs)]
    return xs, measured


def embed(sentences, w, stack):
    table = w[f"{stack}.embed_tokens.weight"]
    dim = table.shape[1]
    return [table[ids] * np.sqrt(dim) + sinusoids(len(ids), dim) for ids in sentences]


def admin_omegas(state, sources, targets, layers, heads):
    """Return {site: omega} for sentences (lists of token ids; targets are the decoder's input)."""
    w = {name: np.asarray(value, dtype=np.float64) for name, value in state.items()}
    memories, encoder = run_stack("encoder", embed(sources, w, "encoder"), w, layers[0], heads)
    _, decoder = run_stack("decoder", embed(targets, w, "decoder"), w, layers[1], heads, memories)
    return {**encoder, **decoder}
