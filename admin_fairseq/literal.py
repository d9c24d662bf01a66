"""Text -> value, without running it: for flags that fairseq itself gives to ``eval``."""

import ast
import operator
from collections.abc import Callable
from typing import Any

# no power: 9**9**9 is a short text that never ends
OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.UAdd: operator.pos,
    ast.USub: operator.neg,
}
LONGEST = 10_000  # characters of a text, and elements of what it may become


def literal(text: str) -> object:
    """Return the value of a Python literal.

    That is numbers, strings, lists, tuples, dictionaries, True, False and None. Beyond
    ``ast.literal_eval`` it knows sums and multiples, which flags have: ``[(512, 3)] * 20``,
    ``1e-3 / 2``.

    Raises:
        ValueError: for anything else, and for what would grow beyond :data:`LONGEST` elements.
    """
    if len(text) > LONGEST:
        raise ValueError(f"a text of {len(text)} characters is no flag")
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    # deep nesting exhausts Python's parser in several ways, by release
    except (SyntaxError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text[:80]!r} is no number, list or dictionary: {error}") from None


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:  # None is the key of ``**rest``
        keys = [_value(key) for key in node.keys if key is not None]
        return dict(zip(keys, [_value(value) for value in node.values]))
    if isinstance(node, ast.UnaryOp) and type(node.op) in SIGNS:
        return SIGNS[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return _combine(type(node.op), _value(node.left), _value(node.right))
    raise ValueError(
        f"{ast.unparse(node)[:80]!r} is no number, list or dictionary: it would have to be run"
    )


def _combine(operation: type[ast.operator], left: object, right: object) -> object:
    # checked before it is done: a few characters name lists that fill the memory
    if operation is ast.Mult:
        for items, times in ((left, right), (right, left)):
            if hasattr(items, "__len__") and isinstance(times, int):
                _check_size(len(items), times)
    return OPERATORS[operation](left, right)


def _check_size(length: int, times: int) -> None:
    if length * times > LONGEST:
        raise ValueError(f"{times} times {length} elements are too many for a flag")
