"""The host entry points of a kernel file: `extern "C" void name(parameters) { … }`.

For each a function `emu_entry_name(void** arguments)` is added that calls it with the values which
the pointers lead to, so that Python needs no knowledge of calling conventions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .errors import refusal
from .rewrite import joined
from .scopes import LONGEST, scopes
from .tokens import Token, matching, split

_WORDS = {"signed", "unsigned", "short", "long", "int", "char", "float", "double", "bool", "void"}
_QUALIFIERS = {"const", "volatile", "struct", "__restrict", "__restrict__"}
# In bytes, where every platform that is built for agrees.
_SIZES = {
    **{"bool": 1, "char": 1, "signed char": 1, "unsigned char": 1, "int8_t": 1, "uint8_t": 1},
    **{"short": 2, "unsigned short": 2, "int16_t": 2, "uint16_t": 2, "__half": 2, "half": 2},
    **{"__nv_bfloat16": 2, "nv_bfloat16": 2, "int": 4, "unsigned int": 4, "float": 4},
    **{"int32_t": 4, "uint32_t": 4, "long": 8, "unsigned long": 8, "long long": 8, "double": 8},
    **{"unsigned long long": 8, "int64_t": 8, "uint64_t": 8, "size_t": 8, "void": 0},
}


@dataclass
class Parameter:
    """A parameter of an entry point.

    type: as written, without the name. base: the type pointed to, or the type itself, in its usual
    spelling ("unsigned int", "float", "Layout"). const: of the base type. size: bytes of the
    parameter itself, 8 for a pointer, 0 while unknown.
    """

    name: str
    type: str
    pointer: bool
    const: bool
    base: str
    size: int


@dataclass
class Entry:
    """An entry point. name: its C name; line: of its definition in `file`."""

    name: str
    line: int
    parameters: list[Parameter]
    file: str = ""


def entries(tokens: Sequence[Token], kernels: set[str]) -> dict[str, Entry]:
    """All entry points that the tokens of a preprocessed file define, by name.

    kernels: names of `__global__` functions, which are not entry points.
    """
    found: dict[str, Entry] = {}
    kinds = scopes(tokens)
    known = aliases(tokens, kinds)
    start = 0  # of the statement
    for index, token in enumerate(tokens):
        if token.text in (";", "{", "}"):
            start = index + 1
        if token.text != "(" or kinds[index] not in ("file", "extern") or index < 2:
            continue
        name = tokens[index - 1]
        single = [token.text for token in tokens[start : start + 2]] == ["extern", '"C"']
        if index - start > LONGEST and (single or kinds[index] == "extern"):
            raise refusal(name.file, name.line, "this declaration is too long")
        head = [token.text for token in tokens[start : min(index - 1, start + LONGEST)]]
        if not single and not (kinds[index] == "extern" and "static" not in head):
            continue
        close = matching(tokens, index)
        if tokens[close + 1 : close + 2] and tokens[close + 1].text != "{":
            continue  # a declaration
        if name.kind != "name" or name.text in kernels:
            continue
        if name.text in found:
            raise refusal(name.file, name.line, f"{name.text} is defined twice")
        if [word for word in head[2 if single else 0 :] if word != "inline"] != ["void"]:
            raise refusal(name.file, name.line, f'{name.text} is extern "C", so it is called from '
                          "Python: it must return void")  # fmt: skip
        parameters = [
            _parameter(name, part, number, known)
            for number, part in enumerate(split(tokens[index + 1 : close]), 1)
        ]
        if len(parameters) == 1 and parameters[0].type == "void":
            parameters = []
        found[name.text] = Entry(name.text, name.line, parameters, name.file)
    return found


def aliases(tokens: Sequence[Token], kinds: Sequence[str]) -> dict[str, str]:
    """Names outside of functions and classes that stand for a built-in type, in its usual spelling.

    A name that stands for several, in several namespaces, is left out.
    """
    found: dict[str, str] = {}
    doubtful: set[str] = set()
    for index, token in enumerate(tokens):
        if token.text not in ("using", "typedef") or kinds[index] not in ("file", "extern"):
            continue
        words: list[str] = []
        for other in tokens[index + 1 : index + 12]:
            if other.text == ";":
                break
            words.append(other.text)
        if token.text == "using" and words[1:2] == ["="]:
            name, base = words[0], words[2:]
        elif token.text == "typedef" and len(words) > 1:
            name, base = words[-1], words[:-1]
        else:
            continue
        plain = _usual(base)
        plain = found.get(plain, plain)
        if found.setdefault(name, plain) != plain or plain not in _SIZES:
            doubtful.add(name)
    return {name: plain for name, plain in found.items() if name not in doubtful}


def _parameter(
    function: Token, tokens: Sequence[Token], number: int, known: Mapping[str, str]
) -> Parameter:
    """One parameter of `function`; BuildError where Python could not pass it. known: aliases."""
    words = [token.text for token in tokens]
    if "=" in words:
        words = words[: words.index("=")]
    where = f"parameter {number} of {function.text}"
    if any(word in ("&", "(", "[", "...", "&&") for word in words):
        raise refusal(function.file, function.line, f"{where}: an entry point takes device "
                      "pointers, numbers and structs by value")  # fmt: skip
    name = f"argument{number}"
    types = _WORDS | set(_SIZES)
    before = [word for word in words[:-1] if word not in _QUALIFIERS]
    if before and before[-1] != "::" and tokens[len(words) - 1].kind == "name":
        if words[-1] not in types | _QUALIFIERS:
            name, words = words[-1], words[:-1]
    stars = words.count("*")
    base = [word for word in words if word not in _QUALIFIERS | {"*"}]
    if stars > 1:
        raise refusal(function.file, function.line, f"{where}: a pointer to a pointer can't be "
                      "passed")  # fmt: skip
    const = "const" in (words[: words.index("*")] if stars else words)
    text = joined([token for token in tokens[: len(words)]])
    plain = known.get(_usual(base), _usual(base))
    size = 8 if stars else _SIZES.get(plain, 0)
    return Parameter(name, text, bool(stars), const, plain, size)


def _usual(words: Sequence[str]) -> str:
    """The usual spelling of a base type: `long unsigned` is "unsigned long"."""
    if words[:2] in (["std", "::"], ["::", "std"]):
        words = [word for word in words if word not in ("std", "::")]
    if not set(words) <= _WORDS:
        return "".join(words)
    counted = list(words)
    unsigned = "unsigned " if "unsigned" in counted else ""
    if "char" in counted:
        return unsigned + ("signed " if "signed" in counted else "") + "char"
    if "float" in counted or "double" in counted or "bool" in counted or "void" in counted:
        return " ".join(counted)
    longs = "long " * counted.count("long")
    kind = "short" if "short" in counted else longs.strip() or "int"
    return unsigned + kind


_VISIBLE = '__attribute__((visibility("default")))'


def thunks(
    found: dict[str, Entry], plain: str = "::emu::is_plain<{}>::value", body: str = "{};"
) -> str:
    """C++ text, to be put behind the file's own: `emu_entry_NAME` and `emu_sizes_NAME` for each.

    emu_sizes_NAME: the number of parameters, then the bytes of each. plain: the test for a type
    that can be copied as bytes. body: what a thunk does, around the call.
    """
    lines = ['extern "C" {']
    for entry in found.values():
        count = len(entry.parameters)
        types = [f"emu_type_{entry.name}_{i}" for i in range(count)]
        for kind, parameter in zip(types, entry.parameters, strict=True):
            text = parameter.type
            lines.append(f"typedef {text} {kind};")
            if not parameter.pointer:
                lines.append(
                    f"static_assert({plain.format(kind)}, "
                    f'"{entry.name}: {parameter.name} is passed by value and must be a plain '
                    'struct");'
                )
        sizes = ", ".join([str(count), *(f"sizeof({kind})" for kind in types)])
        array = f"const unsigned long emu_sizes_{entry.name}[{count + 1}]"
        lines.append(f"extern {_VISIBLE} {array};")
        lines.append(f"{array} = {{{sizes}}};")
        values = ", ".join(f"*static_cast<{k} const*>(emu_a[{i}])" for i, k in enumerate(types))
        lines.append(f"{_VISIBLE} void emu_entry_{entry.name}(void** emu_a);")
        call = body.format(f"{entry.name}({values})")
        lines.append(f"void emu_entry_{entry.name}(void** emu_a) {{ {call} }}")
    return "\n".join([*lines, "}", ""])
