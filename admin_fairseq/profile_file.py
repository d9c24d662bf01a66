"""Profile <-> file: a text that a person can read, written whole or not at all.

::

    # Admin profile. omega scales the shortcut ...
    # version: 1
    # sites: 13
    # seed: 1111
    # ...
    #site<TAB>omega<TAB>branch variance<TAB>shortcut variance
    encoder.layers.0.self_attn_residual<TAB>1.0<TAB>0.0316...<TAB>1.98...
    ...
    # end of profile

The authors' ``profile.ratio.init`` is read too. It has no names and no header, only two columns:
a running number that starts again at 1 for the decoder, and omega.
"""

import math
import os
from collections import OrderedDict

from . import files
from .errors import AdminError
from .profiling import Profile, SiteProfile
from .residual import stack_of

VERSION = "1"
TITLE = "# Admin profile"
ABOUT = (
    "Admin profile. A residual site computes LayerNorm(f(x) + omega * x); omega is the start of its",
    "learnable vector. Variances are of the branch f(x) and the shortcut omega * x, in the profiling pass.",
)
COLUMNS = ("site", "omega", "branch variance", "shortcut variance")
END = "# end of profile"
ENCODER_SITES = ("self_attn_residual", "ffn_residual")
DECODER_SITES = ("self_attn_residual", "encoder_attn_residual", "ffn_residual")


def save(profile, path):
    """Write a profile atomically: readers see the old file or the new one, never a part.

    Raises:
        OSError: if the file cannot be written; a file that was there is still there.
    """
    lines = ["# " + line for line in ABOUT]
    lines += [f"# version: {VERSION}", f"# sites: {len(profile.sites)}"]
    lines += [f"# {key}: {' '.join(str(value).split())}" for key, value in profile.provenance.items()]
    lines.append("#" + "\t".join(COLUMNS))
    for name, site in profile.sites.items():
        lines.append("\t".join([name] + [_show(value) for value in _values(site)]))
    with files.replacing(path) as file:
        file.write(("\n".join(lines + [END]) + "\n").encode("utf-8"))


def may_replace(path):
    """Whether nothing is lost by writing a profile there: no file, an empty one, or a profile, even a part."""
    if not os.path.isfile(path) or os.path.getsize(path) == 0:
        return not os.path.isdir(path)
    with open(path, "rb") as file:
        return file.read(len(TITLE)) == TITLE.encode()


def load(path):
    """Read a profile, ours or the authors' two columns.

    Raises:
        AdminError: naming the file and what is wrong, if it is missing, cut short or not a profile.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except FileNotFoundError:
        raise AdminError(f"{path}: no such profile") from None
    except (OSError, UnicodeDecodeError) as error:
        raise AdminError(f"{path}: cannot be read as a profile: {error}") from None
    try:
        return _parse(text) if text.startswith("#") else _parse_two_columns(text)
    except ValueError as error:
        raise AdminError(f"{path}: {error}") from None


def _values(site):
    return site.omega, site.branch_variance, site.shortcut_variance


def _show(value):
    return "-" if value is None else repr(float(value))


def _parse(text):
    lines = text.split("\n")
    header = [line[1:].strip() for line in lines if line.startswith("#")]
    if not header[0].startswith("Admin profile"):
        raise ValueError("not a profile: its first line does not say 'Admin profile'")
    facts = (line.partition(":") for line in header[len(ABOUT) :])
    provenance = OrderedDict((key, value.strip()) for key, colon, value in facts if colon)
    version, count = provenance.pop("version", None), provenance.pop("sites", None)
    if version != VERSION:
        raise ValueError(f"profile version {version}, but this release reads version {VERSION}")
    if text.rstrip("\n").rsplit("\n", 1)[-1] != END:
        raise ValueError("the profile is cut short: its last line is missing")
    sites = OrderedDict()
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            name, site = _parse_site(number, line)
            if name in sites:
                raise ValueError(f"line {number}: {name} stands there twice")
            sites[name] = site
    if str(len(sites)) != count:
        raise ValueError(f"the header says {count} sites, but there are {len(sites)}")
    return Profile(sites, provenance)


def _parse_site(number, line):
    cells = line.split("\t")
    if len(cells) != len(COLUMNS):
        raise ValueError(f"line {number}: {len(cells)} columns instead of {len(COLUMNS)}")
    values = [None if cell.strip() == "-" else _number(number, cell) for cell in cells[1:]]
    if values[0] is None:
        raise ValueError(f"line {number}: omega is missing")
    return cells[0], SiteProfile(*values)


def _number(number, cell):
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"line {number}: {cell!r} is not a number") from None
    if not math.isfinite(value):
        raise ValueError(f"line {number}: {cell.strip()} is not finite")
    return value


def _parse_two_columns(text):
    stacks = []
    for number, line in enumerate(text.splitlines(), 1):
        cells = line.split()
        if len(cells) != 2 or not cells[0].isdigit():
            raise ValueError(f"not a profile: line {number} is neither '# Admin profile' nor 'number omega'")
        place, omega = int(cells[0]), _number(number, cells[1])
        if place == 1:
            stacks.append([])
        if not stacks or place != len(stacks[-1]) + 1:
            raise ValueError(f"line {number}: number {cells[0]} is out of order")
        stacks[-1].append(omega)
    if len(stacks) != 2 or len(stacks[0]) % len(ENCODER_SITES) or len(stacks[1]) % len(DECODER_SITES):
        found = " and ".join(str(len(stack)) for stack in stacks) or "no"
        raise ValueError(
            f"the two-column profile is cut short: {found} sites, where an encoder has 2 a layer and a decoder 3"
        )
    sites = OrderedDict()
    for stack, kinds, omegas in zip(("encoder", "decoder"), (ENCODER_SITES, DECODER_SITES), stacks):
        for i, omega in enumerate(omegas):
            name = f"{stack}.layers.{i // len(kinds)}.{kinds[i % len(kinds)]}"
            sites[name] = SiteProfile(omega)
    return Profile(sites, OrderedDict(format="two columns (profile.ratio.init)"))


def table(profile):
    """Return a profile as a table for people: one line a site, a blank line between the stacks."""
    width = max([len(name) for name in profile.sites] + [len(COLUMNS[0])])
    lines = ["{:<{}}  {:>10}  {:>16}  {:>18}".format(COLUMNS[0], width, *COLUMNS[1:])]
    stack = None
    for name, site in profile.sites.items():
        if stack not in (None, stack_of(name)):
            lines.append("")
        stack = stack_of(name)
        branch, shortcut = ("-" if v is None else f"{v:.6f}" for v in _values(site)[1:])
        lines.append(f"{name:<{width}}  {site.omega:>10.6f}  {branch:>16}  {shortcut:>18}")
    return "\n".join(lines)
