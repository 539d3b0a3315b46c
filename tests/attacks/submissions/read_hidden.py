# attacks: files: reads hidden tests and the reference, by their true paths
# attempts: 13
# undefended: the public tests: DONE

from pathlib import Path

ROOT = Path("HOMEWORK_ROOT")
HIDDEN = ROOT / "hidden/test_hidden_slots.py"


def by_link():
    os.symlink(HIDDEN, "link")
    return open("link").read()


def by_handle():
    handle = os.open(HIDDEN, os.O_PATH)
    return open(f"/proc/self/fd/{handle}").read()


def running_total(values):
    attempt("hidden tests", HIDDEN.read_text)
    attempt("reference", (ROOT / "solution/tiny/slot_1.py").read_text)
    attempt("the public tests", (ROOT / "tests/test_slots.py").read_text)
    attempt("the harness", Path("HARNESS/autograder/testing/plugin.py").read_text)
    attempt("list hidden", lambda: os.listdir(ROOT / "hidden"))
    attempt("list homework", lambda: os.listdir(ROOT))
    attempt("list /", lambda: os.listdir("/"))
    attempt("list /tmp", lambda: os.listdir("/tmp"))
    attempt("list other tests' folders", lambda: os.listdir(".."))
    attempt("through /proc/self/root", Path(f"/proc/self/root{HIDDEN}").read_text)
    attempt("symbolic link", by_link)
    attempt("hard link", lambda: os.link(HIDDEN, "hard"))
    attempt("O_PATH", by_handle)
    confess()
