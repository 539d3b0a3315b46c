# attacks: files: links, devices, sockets and pipes in its own folder, and a set-uid bit
# attempts: 6

import stat


def set_user_id():
    with open("script", "w") as file:
        file.write("#!/bin/sh\n")
    os.chmod("script", 0o6777)
    os.execv("./script", ["script"])


def bind():
    end = socket.socket(socket.AF_UNIX)
    end.bind("here")


def running_total(values):
    attempt("symlink", lambda: os.symlink("/etc/shadow", "passwords"))
    attempt("fifo", lambda: os.mkfifo("pipe"))
    attempt("device", lambda: os.mknod("memory", stat.S_IFCHR | 0o666, os.makedev(1, 1)))
    attempt("socket", bind)
    attempt("set-uid", set_user_id)
    attempt("take ownership", lambda: os.chown("script", 0, 0))
    confess()
