"""Conditions as text: `up("alpha", "bravo") and reached_by("charlie") >= 2`. A language of words, not of programs.

The text is parsed with Python's grammar and never run: only the nodes and words named here become functions of a cluster, all
else is refused at its place with what may stand there. There are no attributes, no loops, no calls but of the words below, and
a text is short (`TEXT_MAX`, `NODES_MAX`), so asking it is quick whatever it says.

Logic is three-valued (Kleene, Introduction to Metamathematics, 1952, section 64): what is not known is neither true nor
false, and `and`, `or`, `not` say no more than follows. A number that hangs on what is not known lies between two bounds
(`Span`), and a comparison is answered when both bounds give one answer. Pure.
"""

from __future__ import annotations

import ast
import operator
import warnings
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any, Final

from ledger.errors import Refused
from projections.cluster import Cluster
from projections.conditions import CONDITIONS, Condition, Exhibit, Judgement
from projections.vocabulary import WORDS, Span

TEXT_MAX: Final = 2000
NODES_MAX: Final = 400
DEPTH_MAX: Final = 40


_COMPARE: Final[dict[type, Callable[[Any, Any], bool]]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
_ALLOWED: Final = "words, names in quotes, whole numbers, True, False, and, or, not, == != < <= > >=, in (…), brackets"
_Value = Callable[[Cluster], Any]


def expression(text: str) -> tuple[Condition, list[str]]:
    """The condition that a text says, and the machines that it names. Raises Refused for what is not of the language."""
    if len(text) > TEXT_MAX:
        raise Refused(f"an expression of {len(text):,} characters", hint=f"at most {TEXT_MAX:,}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's advice on programs; this is none
            tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        place = f"at character {error.offset}" if error.offset else "at its end"
        raise Refused(f"no expression: {error.msg} {place}", hint=f"there are {_ALLOWED}") from None
    except (ValueError, MemoryError, RecursionError):
        raise Refused("no expression: nested too deep, or not text", hint=f"there are {_ALLOWED}") from None
    nodes = 0
    level: list[ast.AST] = [tree]
    for depth in range(DEPTH_MAX + 1):
        nodes += len(level)
        if nodes > NODES_MAX or (level and depth == DEPTH_MAX):
            raise Refused(f"an expression of more than {NODES_MAX} parts, or {DEPTH_MAX} levels", hint="say less at once")
        level = [child for node in level for child in ast.iter_child_nodes(node)]
    machines: list[str] = []
    kind, value = _Reading(machines).read(tree)
    if kind != "truth":
        raise Refused("an expression must be true or false at a moment", hint="compare it, such as members >= 3")
    shown = " ".join(text.split())
    words = _parts(tree, value, machines)

    def judge(cluster: Cluster) -> Judgement:
        holds = value(cluster)
        return Judgement(holds, () if holds else tuple(words(cluster)))

    return Condition(shown, "", judge), sorted(set(machines))


def _parts(tree: ast.expr, whole: _Value, machines: list[str]) -> Callable[[Cluster], Iterator[Exhibit]]:
    """What of an `and` did not hold: each part with the sentence that it is."""
    texts = [tree] if not (isinstance(tree, ast.BoolOp) and isinstance(tree.op, ast.And)) else tree.values
    parts = [(ast.unparse(each), whole if each is tree else _Reading([]).read(each)[1]) for each in texts]
    subject = ",".join(sorted(set(machines))) or "cluster"

    def found(cluster: Cluster) -> Iterator[Exhibit]:
        verdicts = [(text, value(cluster)) for text, value in parts]
        worst = False if any(verdict is False for _text, verdict in verdicts) else None
        for text, verdict in verdicts:
            if verdict is worst:
                yield Exhibit(subject, f"{text} is {'false' if worst is False else 'not known'}")

    return found


class _Reading:
    """From nodes to functions of a cluster. Each has a kind: truth, number or text."""

    def __init__(self, machines: list[str]) -> None:
        self.machines = machines

    def read(self, node: ast.expr) -> tuple[str, _Value]:
        """(kind, value) of a node."""
        match node:
            case ast.BoolOp(op=op, values=values):
                parts = [self._truth(each) for each in values]
                return "truth", _all(parts) if isinstance(op, ast.And) else _any(parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return "truth", _negated(self._truth(operand))
            case ast.Compare(left=left, ops=ops, comparators=others):
                return "truth", self._compared(left, ops, others)
            case ast.Constant(value=bool() as truth):
                return "truth", lambda _cluster: truth
            case ast.Constant(value=int() as number):
                return "number", lambda _cluster: number
            case ast.Constant(value=str() as text):
                return "text", lambda _cluster: text
            case ast.Name(id=name):
                return self._word(name, [], node)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._word(name, arguments, node)
        raise Refused(f"'{_shown(node)}' does not belong into an expression", hint=f"there are {_ALLOWED}")

    def _truth(self, node: ast.expr) -> _Value:
        kind, value = self.read(node)
        if kind != "truth":
            raise Refused(f"'{_shown(node)}' is a {kind}, where true or false is wanted", hint="compare it, such as members >= 3")
        return value

    def _word(self, name: str, arguments: list[ast.expr], node: ast.expr) -> tuple[str, _Value]:
        condition = CONDITIONS.get(name.replace("_", "-"))
        if condition is not None and isinstance(node, ast.Name):
            return "truth", lambda cluster: condition.at(cluster).holds
        word = WORDS.get(name)
        if word is None and condition is not None:
            raise Refused(f"'{_shown(node)}': {name} takes no machine", hint=f"write {name}")
        if word is None:
            known = [*WORDS, *(each.replace("-", "_") for each in CONDITIONS)]
            near = get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else f"one of {', '.join(known)}"
            raise Refused(f"there is no word '{name[:60]}'", hint=hint)
        names = [each.value for each in arguments if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        if len(names) != len(arguments) or len(names) != word.takes or (not word.takes and isinstance(node, ast.Call)):
            example = ", ".join(['"alpha"', '"bravo"'][: word.takes])
            hint = f"write {name}({example})" if example else f"write {name}"
            raise Refused(f"'{_shown(node)}': {name} is {word.says}", hint=hint)
        self.machines += names
        return word.kind, lambda cluster: word.of(cluster, *names)

    def _compared(self, left: ast.expr, ops: list[ast.cmpop], others: list[ast.expr]) -> _Value:
        parts, before = [], left
        for op, other in zip(ops, others, strict=True):
            if isinstance(op, ast.In | ast.NotIn):
                if not isinstance(other, ast.Tuple | ast.List | ast.Set) or not other.elts:
                    raise Refused(f"'{_shown(other)}' is no list", hint='such as state("alpha", "bravo") in ("up", "planned")')
                one = _any([self._one(before, ast.Eq, each) for each in other.elts])
                parts.append(one if isinstance(op, ast.In) else _negated(one))
            elif type(op) in _COMPARE:
                parts.append(self._one(before, type(op), other))
            else:
                raise Refused("'is' does not belong into an expression", hint="write ==")
            before = other
        return _all(parts)

    def _one(self, left: ast.expr, op: type, right: ast.expr) -> _Value:
        (kind, first), (other, second) = self.read(left), self.read(right)
        if kind != other:
            both = f"'{_shown(left)}' and '{_shown(right)}'"
            raise Refused(f"a {kind} is compared with a {other}: {both}", hint="compare like with like")
        if kind != "number" and op not in {ast.Eq, ast.NotEq}:
            raise Refused(f"'{_shown(left)}' is a {kind}, and has no order", hint="compare it by == or !=")
        compare = _COMPARE[op]
        return lambda cluster: _answer(compare, op, first(cluster), second(cluster))


def _shown(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _answer(compare: Callable[[Any, Any], bool], op: type, first: Any, second: Any) -> bool | None:
    """What a comparison gives, where a side may not be known, or lie between two bounds."""
    if first is None or second is None:
        return None
    if isinstance(first, Span) or isinstance(second, Span):
        a = first if isinstance(first, Span) else Span(first, first)
        b = second if isinstance(second, Span) else Span(second, second)
        if op in {ast.Eq, ast.NotEq}:
            apart, one = a.high < b.low or b.high < a.low, a.low == a.high == b.low == b.high
            return (op is ast.NotEq) if apart else (op is ast.Eq) if one else None
        ends = {compare(x, y) for x in a for y in b}
        return ends.pop() if len(ends) == 1 else None
    return compare(first, second)


def _all(parts: list[_Value]) -> _Value:
    def value(cluster: Cluster) -> bool | None:
        found: bool | None = True
        for part in parts:
            holds = part(cluster)
            if holds is False:
                return False
            found = found if holds else None
        return found

    return value


def _any(parts: list[_Value]) -> _Value:
    negated = _all([_negated(part) for part in parts])
    return _negated(negated)


def _negated(part: _Value) -> _Value:
    def value(cluster: Cluster) -> bool | None:
        holds = part(cluster)
        return None if holds is None else not holds

    return value
