# attacks: reports: an exception whose text raises
# expects: its __str__ raised


class Silent(Exception):
    def __str__(self):
        raise SystemExit(0)


def running_total(values):
    raise Silent
