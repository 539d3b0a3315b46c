# attacks: resources: prints 10 GB
# expects: printed more than 64 kB


def running_total(values):
    for _ in range(10 << 14):
        print("PASSED " * 9000)
