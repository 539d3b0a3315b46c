# attacks: resources: empty files without end
# expects: filled its folder|did not finish


def running_total(values):
    for number in range(10_000_000):
        os.close(os.open(f"n{number}", os.O_CREAT | os.O_WRONLY))
