# attacks: resources: leaves processes and fills the disk while the cache is writable
# slot: 6
# expects: every entry is 0

from pathlib import Path

CACHE = Path(sys.pycache_prefix).parent


def prepare():
    for number in range(100_000):
        (CACHE / f"part{number}").write_bytes(bytes(15 << 20))
    while True:
        pass


def running_total(values):
    return np.zeros(values.size)
