# attacks: files: poisons the cache while it may write there
# slot: 6
# attempts: 6
# report: links: \['(PermissionError|OSError)', '(PermissionError|OSError)'\]

from pathlib import Path

CACHE = Path(sys.pycache_prefix).parent


def how(action):
    try:
        action()
    except OSError as error:
        return type(error).__name__
    return "done"


def prepare():
    links = [
        how(lambda: os.symlink("/etc/passwd", CACHE / "linked")),
        how(lambda: os.link("HOMEWORK_ROOT/hidden/test_hidden_slots.py", CACHE / "hard")),
    ]
    (CACHE / "planted").write_text(f"links: {links}")
    os.chmod(CACHE / "planted", 0o6777)
    os.chmod(CACHE, 0o777)


def running_total(values):
    planted = CACHE / "planted"
    print(planted.read_text())
    attempt("set-uid survived", lambda: 1 // bool(planted.stat().st_mode & 0o6022))
    attempt("still the owner", lambda: [0][os.stat(planted).st_uid < 30_000])
    attempt("write", lambda: (CACHE / "again").write_text("x"))
    attempt("overwrite", lambda: planted.write_text("x"))
    attempt("remove", planted.unlink)
    attempt("chmod", lambda: (os.chmod(CACHE, 0o777), (CACHE / "more").write_text("x")))
    confess()
