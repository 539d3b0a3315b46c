# attacks: reports: HTML, terminal and Markdown escapes in text, exception and names
# expects: alert\(1\)


class AssertionError(Exception):
    pass


def running_total(values):
    nasty = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>"
    nasty += "\x1b[2J\x1b]0;owned\x07 {{ 7*7 }}"
    print(nasty, "‮", "\r\x00\x9b31m")
    hidden = compile("def f(error):\n    raise error", "<b>\x1b[31m", "exec")
    space = {}
    exec(hidden, space)
    space["f"].__code__ = space["f"].__code__.replace(
        co_filename=__file__, co_name="<b onclick=alert(3)>\x1b[31m"
    )
    space["f"](AssertionError(nasty))
