# attacks: reports: an exception with text that no encoding can write
# expects: half a .* character


def running_total(values):
    raise RuntimeError("half a \ud800 character")
