"""A reader of 64-bit little-endian ELF files: sections, symbols, relocations, dynamic entries."""

from __future__ import annotations

import struct
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

WRITE, ALLOC, EXECUTE, THREAD_LOCAL = 1, 2, 4, 0x400
SYMTAB, RELA, DYNAMIC, NOBITS, DYNSYM = 2, 4, 6, 8, 11
UNDEFINED, COMMON = 0, 0xFFF2


class Section(NamedTuple):
    """A section header."""

    name: str
    type: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int


class Symbol(NamedTuple):
    """A symbol. bind: 0 local, 1 global, 2 weak; type: 1 object, 2 function, 3 section, 10 ifunc."""

    name: str
    value: int
    size: int
    bind: int
    type: int
    section: int


class Relocation(NamedTuple):
    """A place in section number `section` that `symbol` + addend goes into."""

    section: int
    offset: int
    type: int
    symbol: int
    addend: int


class Elf:
    """An object file or a shared library that a compiler of ours has written."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        if self.data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit little-endian ELF file")
        (table,) = struct.unpack_from("<Q", self.data, 0x28)
        size, count, names = struct.unpack_from("<HHH", self.data, 0x3A)
        raw = [struct.unpack_from("<IIQQQQIIQQ", self.data, table + i * size) for i in range(count)]
        base = raw[names][4]
        self.sections = [Section(self._text(base + r[0]), *r[1:8]) for r in raw]

    def _text(self, at: int) -> str:
        return self.data[at : self.data.index(b"\0", at)].decode("utf-8", "replace")

    def _table(self, kind: int) -> list[Symbol]:
        found = []
        for section in self.sections:
            if section.type != kind:
                continue
            texts = self.sections[section.link].offset
            for at in range(section.offset, section.offset + section.size, 24):
                name, info, _, index, value, size = struct.unpack_from("<IBBHQQ", self.data, at)
                text = self._text(texts + name)
                found.append(Symbol(text, value, size, info >> 4, info & 15, index))
        return found

    @cached_property
    def symbols(self) -> list[Symbol]:
        """The symbol table, index 0 included."""
        return self._table(SYMTAB)

    @cached_property
    def exported(self) -> list[Symbol]:
        """What other libraries see or must provide."""
        return self._table(DYNSYM)

    def relocations(self) -> list[Relocation]:
        """All relocations with addends."""
        found = []
        for section in self.sections:
            if section.type != RELA:
                continue
            for at in range(section.offset, section.offset + section.size, 24):
                offset, info, addend = struct.unpack_from("<QQq", self.data, at)
                kind, symbol = info & 0xFFFFFFFF, info >> 32
                found.append(Relocation(section.info, offset, kind, symbol, addend))
        return found

    def dynamic(self) -> list[tuple[int, int]]:
        """(tag, value) pairs of the dynamic section."""
        for section in self.sections:
            if section.type == DYNAMIC:
                data = self.data[section.offset : section.offset + section.size]
                return list(struct.iter_unpack("<Qq", data))
        return []

    def read(self, address: int, size: int) -> bytes:
        """Bytes at a virtual address of a shared library."""
        for section in self.sections:
            inside = section.address <= address < section.address + section.size
            if inside and section.flags & ALLOC and section.type != NOBITS:
                at = section.offset + address - section.address
                return self.data[at : at + size]
        raise ValueError(f"nothing is at {address:#x}")
