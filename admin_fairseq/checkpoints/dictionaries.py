"""The dictionaries that a model is built with: read from files, or stand-ins of the right size.

fairseq builds a Transformer from a task's two dictionaries, and reads nothing of them but their
sizes and special symbols. So a checkpoint can be rebuilt without the data that it was trained on.
"""

from argparse import Namespace

from fairseq.data import Dictionary

from ..errors import AdminError
from ..weights import Weights


def load_dictionary(file: str) -> Dictionary:
    """Read a dictionary of fairseq's.

    Raises:
        AdminError: naming the file, if it does not exist or is not a dictionary.
    """
    try:
        return Dictionary.load(file)
    except FileNotFoundError:
        raise AdminError(f"{file}: does not exist") from None
    except Exception as error:  # fairseq's ValueError for a line, and plain ones for an encoding
        raise AdminError(f"{file}: {error}") from None


def task_of(source: Dictionary, target: Dictionary) -> Namespace:
    """Return what fairseq reads of a task when it builds a Transformer."""
    return Namespace(source_dictionary=source, target_dictionary=target)


def stand_in_task(weights: Weights, path: str) -> Namespace:
    """Return a task for building the model of these weights: dictionaries of their sizes.

    Raises:
        AdminError: naming ``path``, if the weights have no embedding to take a size from.
    """
    return task_of(
        _stand_in_dictionary(weights, "encoder", path),
        _stand_in_dictionary(weights, "decoder", path),
    )


def _stand_in_dictionary(weights: Weights, stack: str, path: str) -> Dictionary:
    table = weights.get(f"{stack}.embed_tokens.weight")
    if table is None or table.dim() != 2:
        raise AdminError(
            f"{path}: it has no {stack}.embed_tokens.weight; it must be a translation model of "
            "fairseq-train"
        )
    # the same words on both sides: models that share embeddings want equal dictionaries
    words = Dictionary()
    for number in range(len(table) - words.nspecial):
        words.add_symbol(str(number))
    return words
