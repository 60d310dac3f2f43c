"""The keys that a recipe may set in a class, read from its source: types, defaults and descriptions.

Nothing is imported, because importing PyTorch and Lightning takes seconds: a misspelt key and `--help` answer at once.
What cannot be read for certain is left to the parser, which imports everything.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from distill.discovery import names_in

OWN = ("distill", "students", "teachers", "heads")  # packages whose classes are read
OFFERING = (*OWN, "distill.data")  # packages whose classes recipes name by the package alone
_BUILTIN = {"int", "float", "bool", "str", "list", "tuple", "dict", "None"}
_ARITHMETIC = (ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Constant)
_NAMED = {"Sequence": "list", "Iterable": "list", "Mapping": "dict"}


@dataclass(frozen=True)
class Type:
    """One alternative of what a key takes.

    Attributes:
        kind: "int", "float", "bool", "str", "list", "tuple", "dict", "None", "literal", "settings" (a dataclass),
            "component" (any other class, or what builds one) or "any".
        items: Types of the items of a list or of the values of a dict, one for all; of a tuple, one for each.
        words: Values of a literal.
        settings: Path of a dataclass.
        supplied: How many arguments of a component its owner passes when it builds it.
    """

    kind: str
    items: tuple[tuple["Type", ...], ...] = ()
    words: tuple[object, ...] = ()
    settings: str = ""
    supplied: int = 0


@dataclass(frozen=True)
class Parameter:
    """A key that a class takes.

    Attributes:
        types: What its value may be.
        default: Its default as source text; None if it must be given.
        description: From the docstring.
        least: The smallest number it may be, where the constructor, or `__post_init__` of a dataclass, asks for it by
            `at_least("name", name, number)`.
        positive: Whether it must be above 0, where it is asked for by `positive("name", name)`.
    """

    types: tuple[Type, ...]
    default: str | None
    description: str
    least: int | None = None
    positive: bool = False


def class_names(module: str) -> list[str] | None:
    """Names of the classes that a module of ours offers to recipes; None if there is no such module."""
    tree = _parse(module)
    if tree is None:
        return None
    if module in OFFERING and (names := names_in(module)):
        return [name for name in sorted(names) if name[0].isupper()]
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


@cache
def parameters(class_path: str) -> dict[str, Parameter] | None:
    """The parameters of the constructor, in order, with those of its bases where it passes `**kwargs` on.

    Args:
        class_path: Where the class is, for example "students.RS4D".

    Returns:
        None if there is no such class, or if its source does not say.
    """
    found = _class(class_path)
    if found is None:
        return None
    module, node = found
    described = descriptions(ast.get_docstring(node) or "")
    constructor = method(node, "__init__")
    if constructor is not None:
        return _of_function(module, node, constructor, described | descriptions(ast.get_docstring(constructor) or ""))
    inherited: dict[str, Parameter] | None = {}
    for base in node.bases:
        inherited = parameters(_path(module, base))
        break
    if not _is_dataclass(node) or inherited is None:
        return inherited
    checks = method(node, "__post_init__")
    least, above = ({}, ()) if checks is None else (dict(_least(checks)), tuple(_positive(checks)))
    fields = {
        field.target.id: Parameter(
            tuple(_types(module, field.annotation)),
            None if field.value is None else _source(module, field.value),
            described.get(field.target.id, ""),
            least.get(field.target.id),
            field.target.id in above,
        )
        for field in node.body
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    }
    return inherited | fields


@cache
def lineage(class_path: str) -> list[str]:
    """Where a class and its first bases are defined; of a class that cannot be read its path alone."""
    found = _class(class_path)
    if found is None:
        return [class_path]
    module, node = found
    bases = [path for base in node.bases[:1] if (path := _path(module, base))]
    return [f"{module}.{node.name}", *(path for base in bases for path in lineage(base))]


@cache
def method_parameters(class_path: str, name: str) -> list[str]:
    """Names of the parameters of a method."""
    found = _class(class_path)
    function = None if found is None else method(found[1], name)
    return (
        [] if function is None else [argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)][1:]
    )


def purpose(class_path: str) -> str:
    """The first line of a class's docstring."""
    found = _class(class_path)
    text = None if found is None else ast.get_docstring(found[1])
    return (text or "").partition("\n")[0]


def descriptions(docstring: str) -> dict[str, str]:
    """The text of every entry under `Args:`."""
    found: dict[str, str] = {}
    name = ""
    inside = False
    for line in docstring.splitlines():
        indent = len(line) - len(line.lstrip())
        if line.rstrip() == "Args:":
            inside = True
        elif inside and line.strip() and indent == 0:
            break
        elif inside and indent == 4 and ":" in line:
            name, _, text = line.strip().partition(":")
            found[name.partition(" (")[0]] = text.strip()
        elif inside and name in found:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def method(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    """A method of a class."""
    return next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == name), None)


def _of_function(
    module: str, owner: ast.ClassDef, function: ast.FunctionDef, described: dict[str, str]
) -> dict[str, Parameter] | None:
    arguments = function.args
    given = (*arguments.posonlyargs, *arguments.args)[1:]
    defaults = [None] * (len(given) - len(arguments.defaults)) + list(arguments.defaults)
    named = [*zip(given, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    least, above = dict(_least(function)), tuple(_positive(function))
    own = {
        argument.arg: Parameter(
            tuple(_types(module, argument.annotation)) if argument.annotation else (Type("any"),),
            None if default is None else _source(module, default),
            described.get(argument.arg, ""),
            least.get(argument.arg),
            argument.arg in above,
        )
        for argument, default in named
    }
    if arguments.kwarg is None:
        return own
    handed_on = [
        call
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) == "super().__init__"
        and any(keyword.arg is None for keyword in call.keywords)
    ]
    if len(handed_on) != 1 or handed_on[0].args or not owner.bases:
        return None
    inherited = parameters(_path(module, owner.bases[0]))
    if inherited is None:
        return None
    fixed = {keyword.arg for keyword in handed_on[0].keywords}
    return own | {name: parameter for name, parameter in inherited.items() if name not in own and name not in fixed}


def _least(function: ast.FunctionDef) -> Iterator[tuple[str, int]]:
    """Names and smallest values of the arguments that a method hands to `distill.data.checks.at_least`."""
    for given in _handed_to("at_least", function):
        match given:
            case [ast.Name(id=name) | ast.Attribute(ast.Name("self"), name), ast.Constant(value=int(least))]:
                yield name, least


def _positive(function: ast.FunctionDef) -> Iterator[str]:
    """Names of the arguments that a method hands to `distill.data.checks.positive`."""
    for given in _handed_to("positive", function):
        match given:
            case [ast.Name(id=name) | ast.Attribute(ast.Name("self"), name)]:
                yield name


def _handed_to(check: str, function: ast.FunctionDef) -> Iterator[list[ast.expr]]:
    """What a method hands to a function of `distill.data.checks` after the key, where that is written out."""
    for call in ast.walk(function):
        match call:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(), *given]) if name == check:
                yield given


def _source(module: str, default: ast.expr) -> str:
    """The text of a default; of a constant's name, arithmetic or a factory that of the value."""
    match default:
        case ast.Name(id=name):
            found = _find(module, name)
            if found is not None and not isinstance(found[1], ast.ClassDef):
                return _source(found[0], found[1])
        case ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=int(place))):
            found = _find(module, name)
            if found is not None and isinstance(found[1], ast.Tuple | ast.List):
                return _source(found[0], found[1].elts[place])
        case ast.Call(keywords=[ast.keyword(arg="default_factory", value=ast.Lambda(body=body))]):
            return _source(module, body)
        case ast.BinOp() if all(isinstance(part, _ARITHMETIC) for part in ast.walk(default)):
            return repr(eval(ast.unparse(default)))
    return ast.unparse(default)


def _types(module: str, annotation: ast.expr) -> Iterator[Type]:
    """The alternatives of an annotation, nested unions and names of types resolved."""
    if isinstance(annotation, ast.BinOp):
        yield from _types(module, annotation.left)
        yield from _types(module, annotation.right)
    elif isinstance(annotation, ast.Constant):
        yield Type("None" if annotation.value is None else "any")
    elif isinstance(annotation, ast.Subscript):
        yield _subscripted(module, annotation)
    elif isinstance(annotation, ast.Name) and annotation.id in _BUILTIN:
        yield Type(annotation.id)
    elif isinstance(annotation, ast.Name) and (found := _find(module, annotation.id)) is not None:
        where, node = found
        if not isinstance(node, ast.ClassDef):
            yield from _types(where, node)
        elif _is_dataclass(node):
            yield Type("settings", settings=f"{where}.{node.name}")
        else:
            yield Type("component")
    else:
        yield Type("component" if isinstance(annotation, ast.Attribute) else "any")


def _subscripted(module: str, annotation: ast.Subscript) -> Type:
    name = ast.unparse(annotation.value).rpartition(".")[2]
    name = _NAMED.get(name, name)
    inner = annotation.slice.elts if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    if name == "Callable":
        return Type("component", supplied=len(inner[0].elts) if isinstance(inner[0], ast.List) else 0)
    if name == "Literal":
        return Type("literal", words=tuple(ast.literal_eval(word) for word in inner))
    if name in ("list", "tuple"):
        endless = name == "tuple" and ast.unparse(inner[-1]) == "..."
        items = tuple(tuple(_types(module, item)) for item in (inner[:1] if endless else inner))
        return Type("list" if endless else name, items=items)
    return Type("dict", items=(tuple(_types(module, inner[-1])),)) if name == "dict" else Type("any")


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _class(path: str) -> tuple[str, ast.ClassDef] | None:
    """A class and the module that defines it."""
    module, _, name = path.rpartition(".")
    found = _find(module, name)
    return (found[0], found[1]) if found is not None and isinstance(found[1], ast.ClassDef) else None


def _path(module: str, node: ast.expr) -> str:
    """The full path of a name that a module uses."""
    found = _find(module, node.id) if isinstance(node, ast.Name) else None
    if found is None or not isinstance(found[1], ast.ClassDef):
        return ""
    return f"{found[0]}.{found[1].name}"


@cache
def _find(module: str, name: str) -> tuple[str, ast.ClassDef | ast.expr] | None:
    """Where a name of a module is defined, and as what: a class, or an expression such as a union of types."""
    tree = _parse(module)
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.ClassDef) and node.name == name:
            return module, node
        if isinstance(node, ast.Assign):
            for target, value in _assigned(node):
                if ast.unparse(target) == name:
                    return module, value
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _find(node.module, alias.name)
    home = names_in(module).get(name) if module in OFFERING else None
    return None if home is None else _find(home, name)


def _assigned(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What an assignment sets to what; `A, B = 1, 2` sets two names."""
    target, value = node.targets[0], node.value
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        yield from zip(target.elts, value.elts, strict=True)
    else:
        yield target, value


@cache
def _parse(module: str) -> ast.Module | None:
    package, *rest = module.split(".")
    if package not in (*OWN, "pytorch_lightning"):
        return None
    spec = find_spec(package)  # of a top-level package it imports nothing
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        place = Path(folder, *rest)
        for path in (place / "__init__.py", place.with_suffix(".py") if rest else place):
            if path.is_file():
                return ast.parse(path.read_text(encoding="utf-8"))
    return None
