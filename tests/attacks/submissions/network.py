# attacks: network: sends data out, listens, asks for names
# attempts: 10
# undefended: DONE

import urllib.request


def connect(family, kind, address):
    with socket.socket(family, kind) as end:
        end.settimeout(0.2)
        end.connect(address)


def serve_shell():
    with socket.socket() as end:
        end.bind(("127.0.0.1", 0))
        end.listen()


def running_total(values):
    attempt("tcp", lambda: connect(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 9)))
    attempt("udp", lambda: connect(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 9)))
    attempt("tcp 6", lambda: connect(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 9)))
    attempt("listen", serve_shell)
    attempt("names", lambda: 1 // len(socket.getaddrinfo("example.org", 80)))
    attempt("http", lambda: urllib.request.urlopen("http://127.0.0.1:9", timeout=0.2))
    attempt("netlink", lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
    attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
    attempt("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
    attempt("abstract", lambda: connect(socket.AF_UNIX, socket.SOCK_STREAM, "\0dbus"))
    confess()
