# attacks: files: walks every folder it can for a line of the hidden tests
# expects: walked, found 0 secrets


def running_total(values):
    marker = "SECRET_HEAD_REVERSED"[::-1].encode()
    found, until = 0, time.monotonic() + 1
    tops = ("HOMEWORK_ROOT", "HARNESS/tests", "/home", "/root", "/autograder", "/tmp", "/var", "/")
    for top in tops:
        for folder, _, files in os.walk(top):
            for name in files:
                if time.monotonic() > until or not name.endswith(".py"):
                    break
                try:
                    with open(os.path.join(folder, name), "rb") as file:
                        found += marker in file.read()
                except OSError:
                    pass
    raise RuntimeError(f"walked, found {found} secrets")
