# attacks: resources: folders nested deeper than a walk in Python can follow
# expects: dug down \d\d\d\d folders|did not finish


def running_total(values):
    until, depth = time.monotonic() + 1.2, 0
    while depth < 2000 and (depth < 1100 or time.monotonic() < until):
        os.mkdir("d")
        os.chdir("d")
        depth += 1
    os.chmod(".", 0)
    raise RuntimeError(f"dug down {depth} folders")
