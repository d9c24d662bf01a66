"""What is chosen for one run beside its recipe."""

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Optional


@dataclass
class Settings:
    """The choices for one run; ``init_type`` is the name of a method of ``init_types``.

    Attributes:
        layers: the depth, ENCODER-DECODER.
        data: the folder of the prepared data.
        processes: of all machines together.
        nodes: the machines.
        max_tokens: of one batch on one device; 0 for the recipe's.
        tokens_per_update: 0 for the recipe's.
        updates: the length of the training; 0 for the recipe's.
        fast: whether the plugin's fast criterion, optimizer and layers are taken; None for the
            recipe's choice.
        lr: the peak learning rate, as text; empty for the recipe's. So is ``beta2``.
        profile: the path of a profile whose omegas are taken, ``{seed}`` in it for the run's seed;
            empty for one that is measured.
        extra: more flags of fairseq-train.
    """

    init_type: str
    layers: str
    seed: int
    data: str
    cpu: bool = False
    processes: int = 1
    nodes: int = 1
    max_tokens: int = 0
    tokens_per_update: int = 0
    updates: int = 0
    no_warmup: bool = False
    fast: Optional[bool] = None
    lr: str = ""
    beta2: str = ""
    profile: str = ""
    extra: list[str] = field(default_factory=list)

    @property
    def per_node(self) -> int:
        """The processes of one machine, each with a GPU of its own."""
        return self.processes // self.nodes

    def variant(self) -> str:
        """Return what differs from the recipe, as text; empty where nothing does."""
        parts = ["no-warmup"] if self.no_warmup else []
        if self.fast is not None:
            parts.append("fast" if self.fast else "no-fast")
        changed = {
            "lr": self.lr,
            "beta2": self.beta2,
            "tokens": self.tokens_per_update,
            "updates": self.updates,
            "profile": self.profile_name(),
        }
        for name, value in changed.items():
            if value:
                parts.append(f"{name}={value}")
        return " ".join(parts + self.extra)

    def profile_name(self) -> str:
        """Return what a named profile is called: its file's name, without ending and seed."""
        return Path(self.profile).stem.replace("{seed}", "").strip("-._")

    def name(self) -> str:
        """Return the name of the run's folder."""
        name = f"{self.init_type}-{self.layers}-seed{self.seed}"
        variant = self.variant()
        if not variant:
            return name
        if self.extra:  # flags of fairseq-train may hold what no file name can
            return f"{name}-{hashlib.sha256(variant.encode()).hexdigest()[:8]}"
        return f"{name}-{variant.replace('=', '').replace(' ', '-')}"

    def as_dict(self) -> dict[str, Any]:
        """Return the choices as run.json holds them."""
        return asdict(self)
