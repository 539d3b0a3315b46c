"""From CUDA to C++: launches, shared variables and variables in device memory.

Device variables are found in the file as written, before the preprocessor drops `__device__`; the
rest in what the preprocessor made of it, so that macros are no special case. Everything else of the
text stays as it is, and every line keeps its number.
"""

from __future__ import annotations

from collections.abc import Sequence

from .edits import Edit, quoted
from .errors import refusal
from .scopes import opening_angle, opening_of, scopes, statement_start
from .tokens import Source, Token, matching, matching_angle, split

_DEVICE = {"__device__", "__managed__", "__constant__"}


def joined(tokens: Sequence[Token]) -> str:
    """Source text of the tokens, close to how a person writes it."""
    text = ""
    for token in tokens:
        wide = text and (text[-1].isalnum() or text[-1] in "_>") and token.kind != "operator"
        text += (" " if wide or text.endswith(",") else "") + token.text
    return text


# ---- variables in device memory


def device_variables(source: Source) -> list[Edit]:
    """Edits that move `__device__` and `__managed__` variables to a section of their own.

    A constant stays where it is: it can't change, and one section can't hold both kinds.
    """
    tokens, edits = source.tokens, []
    here = any(token.text in _DEVICE for token in tokens)
    kinds = scopes(tokens, strict=False) if here else []
    done = -1
    for index, token in enumerate(tokens):
        if token.text not in _DEVICE or index <= done:
            continue
        start = statement_start(tokens, index)
        end = _variable_end(tokens, index)
        if end is None:
            continue
        done = end
        marks = [t for t in tokens[start:end] if t.text in _DEVICE]
        words = {t.text for t in tokens[start:end]}
        if kinds[index] == "class":
            raise refusal(token.file, token.line, "a variable of a class can't be on the device: "
                          "declare it outside of the class")  # fmt: skip
        if {"const", "constexpr"} & words:
            edits += [Edit(mark.start, mark.end, "") for mark in marks]
        elif "__constant__" in words:
            edits += [Edit(m.start, m.end, "") for m in marks if m.text != "__constant__"]
        else:
            edits += [Edit(mark.start, mark.end, "") for mark in marks]
            edits[-1] = edits[-1]._replace(text="EMU_DEVICE_VARIABLE")
    return edits


def _variable_end(tokens: Sequence[Token], at: int) -> int | None:
    """Where the declarator of the variable ends, or None if this declares a function."""
    index = at + 1
    while index < len(tokens):
        word = tokens[index].text
        if word in (";", "=", "[", "{"):
            return index
        if word == "(" and tokens[index - 1].text in ("alignas", "__align__", "__attribute__"):
            index = matching(tokens, index)
        elif word == "(" or word == "operator":
            return None
        elif word == "<":
            index = matching_angle(tokens, index) or index
        index += 1
    return None


# ---- launches


def launches(tokens: Sequence[Token], kernels: set[str] | None) -> list[Edit]:
    """Edits for every `kernel<<<…>>>(…)`.

    kernels: names that are `__global__` functions; None where macros make it impossible to say.
    """
    edits: list[Edit] = []
    for index, token in enumerate(tokens):
        opening = index
        if token.text == "<<" and tokens[index + 1 : index + 2] and tokens[index + 1].text == "<":
            opening = index + 1
        elif token.text != "<<<":
            continue
        start = _kernel_start(tokens, index)
        kernel = tokens[start:index]
        _check_kernel(kernel, kernels)
        closing = _configuration_end(tokens, opening)
        paren = closing + 3
        if paren >= len(tokens) or tokens[paren].text != "(":
            raise refusal(token.file, token.line, "a launch needs its arguments: <<<…>>>(…)")
        last = matching(tokens, paren)
        arguments = split(tokens[paren + 1 : last])
        _check_launch(token, split(tokens[opening + 1 : closing]), arguments)
        name = joined(kernel)
        begin = f"::emu::launch(::emu::configure({quoted(name)}, {token.line}, "
        call = f"), [](auto... emu_x) {{ {name}(emu_x...); }}{', ' if arguments else ''}"
        edits.append(Edit(kernel[0].start, tokens[opening].end, begin))
        edits.append(Edit(tokens[closing].start, tokens[paren].end, call))
    return edits


def _kernel_start(tokens: Sequence[Token], at: int) -> int:
    """The index of the first token of the kernel's name before the <<< at `at`."""
    index = at - 1
    while index >= 0:
        if tokens[index].text == ">":
            index = opening_angle(tokens, index) - 1
        if tokens[index].text == ")":
            return opening_of(tokens, index)
        if tokens[index].kind != "name":
            break
        before = tokens[index - 1].text if index else ""
        if before == "template":
            index, before = index - 1, tokens[index - 2].text if index > 1 else ""
        if before in (".", "->", "]"):
            break
        if before != "::":
            return index
        qualifier = tokens[index - 2] if index > 1 else None
        if qualifier is None or (qualifier.kind != "name" and qualifier.text != ">"):
            return index - 1
        if qualifier.text in ("return", "else", "do"):
            return index - 1
        index -= 2
    raise refusal(tokens[at].file, tokens[at].line, "only a kernel named directly can be launched: "
                  "write name<<<grid, block>>>(…)")  # fmt: skip


def _check_kernel(kernel: Sequence[Token], kernels: set[str] | None) -> None:
    names = [token for token in kernel if token.kind == "name"]
    depth, last = 0, None
    for token in kernel:
        depth += (token.text == "<") - (token.text == ">")
        if token.kind == "name" and depth == 0:
            last = token
    last = last or names[0]
    if kernels is not None and last.text not in kernels:
        raise refusal(last.file, last.line, f"{last.text} is no __global__ function of this file; a "
                      "kernel can't be launched through a pointer or an argument")  # fmt: skip


def _configuration_end(tokens: Sequence[Token], at: int) -> int:
    """The index of the first > of the >>> that ends the configuration begun at `at`."""
    index = at + 1
    while index + 3 < len(tokens):
        word = tokens[index].text
        if word in ("(", "[", "{"):
            index = matching(tokens, index)
        elif word == ";":
            break
        elif all(tokens[index + k].text == ">" for k in range(3)) and tokens[index + 3].text == "(":
            return index
        index += 1
    raise refusal(tokens[at].file, tokens[at].line, "this <<< has no >>> with arguments behind it")


def _check_launch(
    mark: Token, configuration: list[list[Token]], arguments: list[list[Token]]
) -> None:
    if not 2 <= len(configuration) <= 4 or not all(configuration):
        raise refusal(mark.file, mark.line, "a launch takes <<<grid, block>>>, and if needed the "
                      "bytes of shared memory and a stream: 2 to 4 values")  # fmt: skip
    for argument in arguments:
        if argument and argument[0].text == "{":
            raise refusal(mark.file, mark.line, "an argument {…} has no type: write its type "
                          "before the {")  # fmt: skip


# ---- shared variables


def shared_variables(tokens: Sequence[Token]) -> list[Edit]:
    """Edits for every `__shared__` declaration."""
    where = [index for index, token in enumerate(tokens) if token.text == "__shared__"]
    kinds = scopes(tokens) if where else []
    edits: list[Edit] = []
    for index in where:
        token = tokens[index]
        if kinds[index] == "class":
            raise refusal(token.file, token.line, "a member of a class can't be __shared__: "
                          "declare it inside of a kernel or a device function")  # fmt: skip
        if kinds[index] != "block":
            raise refusal(token.file, token.line, "a __shared__ variable outside of a function is "
                          "not taken: declare it inside of the kernel that uses it")  # fmt: skip
        start = statement_start(tokens, index)
        end = index
        while end < len(tokens) and tokens[end].text != ";":
            end = matching(tokens, end) + 1 if tokens[end].text in ("(", "[", "{") else end + 1
        if end == len(tokens):
            raise refusal(token.file, token.line, "this __shared__ declaration has no ;")
        text = _shared(token, tokens[start:end])
        edits.append(Edit(tokens[start].start, tokens[end].end, text))
    return edits


def _shared(mark: Token, declaration: Sequence[Token]) -> str:
    words = {token.text for token in declaration}
    dynamic = "extern" in words
    rest = [t for t in declaration if t.text not in ("__shared__", "static", "extern")]
    rest, alignment = _without_alignment(rest)
    type_end = _declarator_start(mark, rest)
    type_text = " ".join(token.text for token in rest[:type_end])
    texts = []
    for declarator in split(rest[type_end:]):
        name_at = next((i for i, t in enumerate(declarator) if t.kind == "name"), None)
        if name_at is None or any(t.text != "*" for t in declarator[:name_at]):
            raise refusal(mark.file, mark.line, "this __shared__ declaration is too intricate: "
                          "name its type with `using` first")  # fmt: skip
        name = declarator[name_at].text
        before, behind = declarator[:name_at], declarator[name_at + 1 :]
        if not dynamic and _initialised(behind):
            if max(token.line for token in behind) > declarator[name_at].line:
                raise refusal(mark.file, declarator[name_at].line, f"expected ';' behind {name}")
            raise refusal(mark.file, mark.line, f"a __shared__ variable can't have a first value: "
                          f"let threads write {name}, then __syncthreads()")  # fmt: skip
        make = _dynamic_text if dynamic else _static_text
        texts.append(make(mark, type_text + " " + joined(before), name, behind, alignment))
    return " ".join(texts)


def _initialised(behind: Sequence[Token]) -> bool:
    """Is there a first value in what stands behind a variable's name?"""
    index = 0
    while index < len(behind) and behind[index].text == "[":
        index = matching(behind, index) + 1
    return index < len(behind)


def _declarator_start(mark: Token, tokens: Sequence[Token]) -> int:
    """The index where the first declarator (with its *) begins, behind the type."""
    index, name = 0, None
    while index < len(tokens):
        word = tokens[index].text
        if word in ("[", ",", "=", "{"):
            break
        if word == "(":
            if tokens[index - 1].text != "decltype":
                break
            index = matching(tokens, index)
        elif word == "<":
            index = matching_angle(tokens, index) or index
        elif tokens[index].kind == "name":
            name = index
        index += 1
    if not name:
        raise refusal(mark.file, mark.line, "this __shared__ declaration has no name or no type")
    while tokens[name - 1].text == "*":
        name -= 1
    return name


def _without_alignment(tokens: Sequence[Token]) -> tuple[list[Token], str]:
    """The tokens without alignas(…) and attributes, and those as text."""
    kept: list[Token] = []
    alignment, index = "", 0
    while index < len(tokens):
        if tokens[index].text in ("alignas", "__attribute__", "__align__"):
            end = matching(tokens, index + 1)
            alignment += " ".join(token.text for token in tokens[index : end + 1]) + " "
            index = end
        else:
            kept.append(tokens[index])
        index += 1
    return kept, alignment


def _static_text(mark: Token, kind: str, name: str, behind: Sequence[Token], align: str) -> str:
    size = "".join(token.text + " " for token in behind)
    make = f'::emu::shared<emu_type_{name}>(&emu_site_{name}, "{name}", {mark.line})'
    site = f"static const char emu_site_{name} = 0;"
    if not align:
        return f"typedef {kind} emu_type_{name} {size}; {site} emu_type_{name}& {name} = {make};"
    # An alignment belongs to a variable or a class, not to the type of an array.
    box = f"struct emu_type_{name} {{ typedef {kind} type {size}; {align} type value; }};"
    return f"{box} {site} typename emu_type_{name}::type& {name} = {make}.value;"


def _dynamic_text(mark: Token, kind: str, name: str, behind: Sequence[Token], align: str) -> str:
    if len(behind) < 2 or behind[0].text != "[" or behind[1].text != "]":
        raise refusal(mark.file, mark.line, f"extern __shared__ takes an array without a size: "
                      f"{name}[]")  # fmt: skip
    size = "".join(token.text + " " for token in behind[2:])
    make = f'static_cast<emu_type_{name}*>(::emu_dynamic_shared("{name}", {mark.line}))'
    return f"typedef {kind} emu_type_{name} {size}; emu_type_{name}* const {name} = {make};"
