# attacks: resources: files without end, each within the limit for one
# expects: filled its folder


def running_total(values):
    block = bytes(15 << 20)
    for number in range(100_000):
        with open(f"part{number}", "wb") as file:
            file.write(block)
