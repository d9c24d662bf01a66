"""Text -> value, without running it: what fairseq's flags hold where fairseq itself calls ``eval``."""

import ast
import operator

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
SIGNS = {ast.UAdd: operator.pos, ast.USub: operator.neg}
LONGEST = 10_000  # characters of a text, and elements of what it may become


def literal(text: str) -> object:
    """Return the value of a Python literal: numbers, strings, lists, tuples, dictionaries, True, False, None.

    Beyond ``ast.literal_eval`` it knows sums and multiples, which flags have: ``[(512, 3)] * 20``, ``1e-3 / 2``.

    Raises:
        ValueError: for anything else, and for what would grow beyond :data:`LONGEST` elements.
    """
    if len(text) > LONGEST:
        raise ValueError(f"a text of {len(text)} characters is no flag")
    try:
        return _value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        raise ValueError(f"{text[:80]!r} is no number, list or dictionary: {error}") from None


def _value(node: ast.expr) -> object:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.UnaryOp) and type(node.op) in SIGNS:
        return SIGNS[type(node.op)](_value(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        return _combine(type(node.op), _value(node.left), _value(node.right))
    raise ValueError(
        f"{ast.unparse(node)[:80]!r} is no number, list or dictionary: it would have to be run"
    )


def _combine(operation: type, left: object, right: object) -> object:
    if operation is ast.Mult:
        for items, times in ((left, right), (right, left)):
            if (
                hasattr(items, "__len__")
                and isinstance(times, int)
                and len(items) * times > LONGEST
            ):
                raise ValueError(f"{times} times {len(items)} elements are too many for a flag")
    return OPERATORS[operation](left, right)
