"""
What is sought in a table, as text: ``drivable < 0.1 and state != 'ok'``.

The syntax is Python's, nothing of it is run: it is read into an expression of pyarrow, which is
evaluated file by file. Known are names of columns, numbers, texts, lists, ``and or not``,
``== != < <= > >=`` (chained, too), ``in``, ``is None``, ``+ - * /``, ``abs(x)`` and
``contains(text_column, 'part')``. Texts beside the column ``time`` are times. A value that is
missing (null) fits nothing but ``is None``.
"""

import ast
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import ConfigError

_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: lambda a, b: a == b, ast.NotEq: lambda a, b: a != b,
    ast.Lt: lambda a, b: a < b, ast.LtE: lambda a, b: a <= b,
    ast.Gt: lambda a, b: a > b, ast.GtE: lambda a, b: a >= b}
_SUMS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: lambda a, b: a + b, ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b, ast.Div: lambda a, b: a / b}
_ALLOWED = ('allowed are columns, numbers, texts, and or not, == != < <= > >=, in [...], is None, '
            '+ - * /, abs(x), contains(text, part)')
_DEEPEST = 100


def parse(text: str, columns: pa.Schema) -> pc.Expression:
    """
    Return what an expression means for a table.

    :raises ConfigError: it is none, names an unknown column, or is no question of yes and no.
    """
    try:
        tree = ast.parse(text.strip(), mode='eval')
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f'expression {text!r} cannot be read: '
                          f'{getattr(error, "msg", error)}; {_ALLOWED}') from None
    found = _Reader(text, columns).expression(tree.body, 0)
    try:
        answer = columns.empty_table().to_batches() or [
            pa.RecordBatch.from_pylist([], columns)]
        kinds = pa.dataset.Scanner.from_batches(answer, schema=columns,
                                                columns={'answer': found}).projected_schema
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise ConfigError(f'expression {text!r} does not fit the columns: '
                          f'{str(error).splitlines()[0]}') from None
    if kinds.field('answer').type != pa.bool_():
        raise ConfigError(f'expression {text!r} is no question of yes and no: compare it with '
                          'something, as in drivable < 0.1')
    return found


class _Reader:
    def __init__(self, text: str, columns: pa.Schema) -> None:
        self._text, self._columns = text, columns

    def expression(self, node: ast.expr, depth: int) -> pc.Expression:
        """Return what a part of the tree means."""
        if depth > _DEEPEST:
            raise ConfigError(f'the expression is nested more than {_DEEPEST} times')
        inner = depth + 1
        if isinstance(node, ast.BoolOp):
            parts = [self.expression(part, inner) for part in node.values]
            found = parts[0]
            for part in parts[1:]:
                found = found & part if isinstance(node.op, ast.And) else found | part
            return found
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.expression(node.operand, inner)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return pc.scalar(0) - self.expression(node.operand, inner)
        if isinstance(node, ast.BinOp) and type(node.op) in _SUMS:
            return _SUMS[type(node.op)](self.expression(node.left, inner),
                                        self.expression(node.right, inner))
        if isinstance(node, ast.Compare):
            return self._comparison(node, inner)
        if isinstance(node, ast.Call):
            return self._call(node, inner)
        if isinstance(node, ast.Name):
            return self._column(node.id)
        if isinstance(node, ast.Constant):
            return pc.scalar(self._value(node))
        raise self._unknown(node)

    def _comparison(self, node: ast.Compare, depth: int) -> pc.Expression:
        found: pc.Expression | None = None
        sides = [node.left, *node.comparators]
        for left, operator, right in zip(sides, node.ops, sides[1:], strict=False):
            part = self._compared(left, operator, right, depth)
            found = part if found is None else found & part
        assert found is not None
        return found

    def _compared(self, left: ast.expr, operator: ast.cmpop, right: ast.expr,
                  depth: int) -> pc.Expression:
        if isinstance(operator, (ast.Is, ast.IsNot)):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._unknown(right, 'behind `is` only None is allowed')
            missing = self.expression(left, depth).is_null()
            return missing if isinstance(operator, ast.Is) else ~missing
        if isinstance(operator, (ast.In, ast.NotIn)):
            if not isinstance(right, (ast.List, ast.Tuple)):
                raise self._unknown(right, "behind `in` a list is wanted, as in ['blind', "
                                    "'doubtful']")
            values = [self._value(item, left) for item in right.elts]
            within = self._plain(left, depth).isin(values)
            return within if isinstance(operator, ast.In) else ~within
        return _COMPARISONS[type(operator)](self._side(left, right, depth),
                                            self._side(right, left, depth))

    def _side(self, node: ast.expr, other: ast.expr, depth: int) -> pc.Expression:
        if isinstance(node, ast.Constant):
            return pc.scalar(self._value(node, other))
        return self._plain(node, depth)

    def _plain(self, node: ast.expr, depth: int) -> pc.Expression:
        """Return a side of a comparison; words as texts, whatever they are stored as."""
        found = self.expression(node, depth)
        if isinstance(node, ast.Name) and pa.types.is_dictionary(
                self._columns.field(node.id).type):
            return found.cast(pa.string())
        return found

    def _call(self, node: ast.Call, depth: int) -> pc.Expression:
        name = node.func.id if isinstance(node.func, ast.Name) else ''
        if node.keywords or (name, len(node.args)) not in (('abs', 1), ('contains', 2)):
            raise self._unknown(node)
        if name == 'abs':
            return pc.abs(self.expression(node.args[0], depth))
        part = node.args[1]
        if not (isinstance(part, ast.Constant) and isinstance(part.value, str)):
            raise self._unknown(part, 'contains() wants a text')
        return pc.match_substring(self._plain(node.args[0], depth), part.value, ignore_case=True)

    def _column(self, name: str) -> pc.Expression:
        if name not in self._columns.names:
            raise ConfigError(f'there is no column {name!r}; there are '
                              f'{", ".join(self._columns.names)}')
        return pc.field(name)

    def _value(self, node: ast.expr, beside: ast.expr | None = None) -> Any:
        """Return a constant; a text beside a column of times is a time."""
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._value(node.operand)
            if isinstance(value, (int, float)):
                return -value
        if not (isinstance(node, ast.Constant)
                and isinstance(node.value, (bool, int, float, str))):
            raise self._unknown(node)
        value = node.value
        if (isinstance(value, str) and isinstance(beside, ast.Name)
                and beside.id in self._columns.names
                and pa.types.is_timestamp(self._columns.field(beside.id).type)):
            try:
                moment = datetime.fromisoformat(value)
            except ValueError:
                raise ConfigError(f'{value!r} is no time: write it as 2026-03-01 or '
                                  '2026-03-01T12:30:00') from None
            zoned = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
            return pa.scalar(zoned, self._columns.field(beside.id).type)
        return value

    def _unknown(self, node: ast.expr, mend: str = _ALLOWED) -> ConfigError:
        part = ast.get_source_segment(self._text.strip(), node) or self._text
        return ConfigError(f'expression {self._text!r}: {part!r} is not allowed here; {mend}')
