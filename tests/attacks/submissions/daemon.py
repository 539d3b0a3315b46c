# attacks: result: leaves a daemon behind that writes later
# attempts: 6
# undefended: DONE

import subprocess


def daemonise():
    if os.fork():
        return "a daemon"
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(3)
    open("LEFTOVER", "w").close()
    os._exit(0)


def bare_fork():
    if ctypes.CDLL(None).fork() == 0:
        time.sleep(30)
        os._exit(0)
    return "a child"


def running_total(values):
    attempt("fork", daemonise)
    attempt("posix_spawn", lambda: os.posix_spawn("/bin/sleep", ["sleep", "30"], {}))
    attempt("subprocess", lambda: subprocess.Popen(["/bin/sleep", "30"]))
    attempt("exec", lambda: os.execv("/nonexistent/of/course", ["x"]))
    attempt("system", lambda: 1 // (os.system("true") == 0))
    attempt("clone", lambda: system_call(56, 220, 0x80000000, 0, 0, 0, 0))
    confess()
