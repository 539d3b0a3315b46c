# attacks: files: searches its own memory, a copy of the parent's, for a line of the hidden tests
# expects: searched \d+ MB, found 0

import hashlib

HEAD, TAIL_DIGEST, TAIL_LENGTH = "SECRET_HEAD_REVERSED"[::-1].encode(), "SECRET_TAIL_DIGEST", 20


def running_total(values):
    searched = found = 0
    with open("/proc/self/maps") as maps:
        regions = [line.split() for line in maps]
    for where, rights, *_, name in regions:
        first, last = (int(part, 16) for part in where.split("-"))
        if rights[0] != "r" or last - first > 1 << 28 or name.startswith("[v"):
            continue
        data = ctypes.string_at(first, last - first)
        searched += len(data)
        place = data.find(HEAD)
        while place != -1:
            tail = data[place + len(HEAD) : place + len(HEAD) + TAIL_LENGTH]
            found += hashlib.sha256(tail).hexdigest() == TAIL_DIGEST
            place = data.find(HEAD, place + 1)
    raise RuntimeError(f"searched {searched >> 20} MB, found {found}")
