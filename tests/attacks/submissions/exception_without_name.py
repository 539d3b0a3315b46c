# attacks: reports: an exception whose class has no name that could be sent
# expects: can't be returned here|exited with status 70


class Nameless(type):
    @property
    def __name__(cls):
        return object()


class Odd(Exception, metaclass=Nameless):
    pass


def running_total(values):
    raise Odd
