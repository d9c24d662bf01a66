"""Profile <-> a text that a person can read.

::

    # Admin profile. omega scales the shortcut ...
    # version: 1
    # sites: 13
    # omega shape: recursion
    # seed: 1111
    # ...
    #site<TAB>omega<TAB>branch variance<TAB>shortcut variance
    encoder.layers.0.self_attn_residual<TAB>1.0<TAB>0.0316...<TAB>1.98...
    ...
    # checksum: 0123456789abcdef
    # end of profile

Where omega has another shape than the recursion's (``shape``), a fifth column tells the recursion's
omega. Files of older releases do not name a shape: theirs is the recursion's.
"""

from collections import OrderedDict
from typing import Optional

from ..init_types import OMEGA_SHAPES
from ..sites import stack_of
from .checks import CHECKSUM, key_of, number_in, shown, with_checksum
from .data import Profile, SiteProfile

VERSION = "1"
TITLE = "# Admin profile"
ABOUT = (
    "Admin profile. A residual site computes LayerNorm(f(x) + omega * x); "
    "omega is the start of its",
    "learnable vector. Variances are of the branch f(x) and the shortcut omega * x, "
    "in the profiling pass.",
)
COLUMNS = ("site", "omega", "branch variance", "shortcut variance")
OF_RECURSION = "omega of the recursion"  # one more column, where omega is another
SHAPE = "omega shape"
END = "# end of profile"


def format_profile(profile: Profile) -> str:
    """Return a profile's text, with its checksum."""
    lines = ["# " + line for line in ABOUT]
    lines += [f"# version: {VERSION}", f"# sites: {len(profile.sites)}"]
    lines.append(f"# {SHAPE}: {profile.shape}")
    lines += [f"# {key}: {_one_line(value)}" for key, value in profile.provenance.items()]
    lines.append("#" + "\t".join(columns_of(profile.shape)))
    for name, site in profile.sites.items():
        cells = [name]
        values = [site.omega, site.branch_variance, site.shortcut_variance]
        if profile.shape != "recursion":
            values.append(site.of_recursion)
        for value in values:
            # repr is the shortest text that reads back as the same number, to the last bit
            cells.append("-" if value is None else repr(float(value)))
        lines.append("\t".join(cells))
    return with_checksum("\n".join([*lines, END]))


def columns_of(shape: str) -> tuple[str, ...]:
    """Return the columns of a profile with a shape of omega."""
    return COLUMNS if shape == "recursion" else (*COLUMNS, OF_RECURSION)


def unwritable_names(profile: Profile) -> list[str]:
    """Return what of a profile's names would not be read as it is written."""
    problems = []
    for name in profile.sites:
        if name.startswith("#") or not _is_word(name):
            problems.append(f"{shown(name)} cannot be the name of a site")
    for key in profile.provenance:
        # these keys are the format's own, and a colon would end the key too soon
        if key in ("version", "sites", SHAPE, CHECKSUM) or ":" in key or not _is_word(key):
            problems.append(f"{shown(key)} cannot be the name of a fact")
    return problems


def parse_profile(text: str) -> tuple[Profile, Optional[str]]:
    """Return the profile that a text tells, and the checksum that it names, None without one.

    Raises:
        ValueError: naming what is wrong, if it is not a profile, of another version, or cut short.
            Whether the checksum is right is not looked at.
    """
    lines = text.split("\n")
    header = [line for line in lines if line.startswith("#")]
    if not header or not header[0].startswith(TITLE):
        raise ValueError("not a profile: its first line does not say 'Admin profile'")
    provenance = _parse_header(header[len(ABOUT) :])
    version = provenance.pop("version", None)
    count = provenance.pop("sites", None)
    digits = provenance.pop(CHECKSUM, None)
    shape = provenance.pop(SHAPE, "recursion")
    if version != VERSION:
        raise ValueError(
            f"profile version {version and shown(version)}, "
            f"but this release reads version {VERSION}"
        )
    if shape not in OMEGA_SHAPES:
        raise ValueError(
            f"the omega shape {shown(shape)}, but this release knows {' and '.join(OMEGA_SHAPES)}"
        )
    # before sites are read: of a file that was cut, the last line may be half a number
    if text.rstrip("\n").rsplit("\n", 1)[-1] != END:
        raise ValueError("the profile is cut short: its last line is missing")
    sites = _parse_sites(lines, columns_of(shape))
    # lines may be lost in the middle as well, where files have no checksum
    if str(len(sites)) != count:
        raise ValueError(
            f"the header says {count and shown(count)} sites, but there are {len(sites)}"
        )
    return Profile(sites, provenance, shape), digits


def table(profile: Profile) -> str:
    """Return a profile as a table: one line a site, a blank line between the stacks."""
    width = max([len(name) for name in profile.sites] + [len(COLUMNS[0])])
    columns = columns_of(profile.shape)
    heading = "{:<{}}  {:>10}  {:>16}  {:>18}".format(COLUMNS[0], width, *COLUMNS[1:])
    lines = ["  ".join([heading, *columns[len(COLUMNS) :]])]
    stack = None
    for name, site in profile.sites.items():
        if stack not in (None, stack_of(name)):
            lines.append("")
        stack = stack_of(name)
        branch, shortcut = _rounded(site.branch_variance), _rounded(site.shortcut_variance)
        line = f"{name:<{width}}  {site.omega:>10.6f}  {branch:>16}  {shortcut:>18}"
        if len(columns) > len(COLUMNS):
            line += f"  {site.of_recursion:>{len(OF_RECURSION)}.6f}"
        lines.append(line)
    return "\n".join(lines)


def _rounded(variance: Optional[float]) -> str:
    return "-" if variance is None else f"{variance:.6f}"


def _is_word(text: str) -> bool:
    return text.isprintable() and text.strip() == text != ""


def _one_line(value: object) -> str:
    """Return a value as printable text in one line."""
    text = " ".join(str(value).split())
    shown = []
    for character in text:
        shown.append(character if character.isprintable() else repr(character)[1:-1])
    return "".join(shown)


def _parse_header(lines: list[str]) -> OrderedDict[str, str]:
    """Return the keys and values of the lines ``# key: value``; others are remarks."""
    facts: OrderedDict[str, str] = OrderedDict()
    for line in lines:
        key = key_of(line)
        if key is None:
            continue
        if key in facts:
            raise ValueError(f"the header says {shown(key)} twice")
        facts[key] = line.partition(":")[2].strip()
    return facts


def _parse_sites(lines: list[str], columns: tuple[str, ...]) -> OrderedDict[str, SiteProfile]:
    sites: OrderedDict[str, SiteProfile] = OrderedDict()
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, site = _parse_site(number, line, columns)
        if name in sites:
            raise ValueError(f"line {number}: {shown(name)} appears twice")
        sites[name] = site
    return sites


def _parse_site(number: int, line: str, columns: tuple[str, ...]) -> tuple[str, SiteProfile]:
    cells = line.split("\t")
    if len(cells) != len(columns):
        raise ValueError(f"line {number}: {len(cells)} columns instead of {len(columns)}")
    omega, branch, shortcut, *more = (_value(cell, number) for cell in cells[1:])
    if omega is None:
        raise ValueError(f"line {number}: omega is missing")
    if None in more:
        raise ValueError(f"line {number}: the {OF_RECURSION} is missing")
    return cells[0], SiteProfile(omega, branch, shortcut, *more)


def _value(cell: str, line: int) -> Optional[float]:
    return None if cell.strip() == "-" else number_in(cell, line)
