"""Draw validation curves from logs of fairseq-train: plot_curves.py --out OUT.png NAME=LOG [NAME=LOG ...]"""

import argparse
from collections import OrderedDict

from admin_fairseq import plots
from admin_fairseq.logs import read_log


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("logs", nargs="+", metavar="NAME=LOG")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()

    curves = OrderedDict()
    for pair in args.logs:
        name, equals, path = pair.partition("=")
        if not equals:
            parser.error(f"{pair}: not NAME=LOG")
        curves[name] = [(record["num_updates"], record["nll_loss"]) for record in read_log(path)[1]]
        if not curves[name]:
            parser.error(f"{path}: no validation in it")
    plots.save_figure(
        args.out, lambda axis: plots.draw_curves(axis, curves, "validation nll per token (bits)")
    )


if __name__ == "__main__":
    main()
