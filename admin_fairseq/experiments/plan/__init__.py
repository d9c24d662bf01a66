"""``admin-fairseq plan``: what a training of a recipe will take, before it is begun.

1. ``shape``      the model's sizes, its parameters, and the arithmetic of one epoch
2. ``memory``     what it needs on each GPU
3. ``corpus``     how much text there is: the data-bin's, or what the recipe knows of it
4. ``gpus``       peak arithmetic and memory of GPUs, by name
5. ``report``     all of it as lines
6. ``command``    the subcommand
"""
