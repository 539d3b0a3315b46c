# attacks: resources: one file without end
# attempts: 2


def fill():
    with open("big", "wb") as file:
        for _ in range(1000):
            file.write(bytes(1 << 20))


def stretch():
    with open("wide", "wb") as file:
        file.truncate(1 << 40)


def running_total(values):
    attempt("write", fill)
    attempt("truncate", stretch)
    confess()
