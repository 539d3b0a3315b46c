# attacks: resources: digs folders into the cache, deeper than the grader can follow
# slot: 6
# report: dug down 1100

from pathlib import Path

CACHE = Path(sys.pycache_prefix).parent


def prepare():
    os.chdir(CACHE)
    for _ in range(1100):
        os.mkdir("d")
        os.chdir("d")
    (CACHE / "dug").write_text("dug down 1100")
    os.chmod(CACHE, 0o777)


def running_total(values):
    print((CACHE / "dug").read_text())
    return np.zeros(values.size)
