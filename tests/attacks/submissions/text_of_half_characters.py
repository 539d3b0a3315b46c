# attacks: reports: a result with text that no encoding can write
# expects: the result can't be used: a text with half a character


def running_total(values):
    return "\udc80" * 10
