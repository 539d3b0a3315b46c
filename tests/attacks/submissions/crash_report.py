# attacks: reports: writes its own crash report, with a line number of 5,000 digits
# expects: exited with status 3

import stat


def running_total(values):
    line = f'  File "{__file__}", line {"9" * 5000} in <b>\x1b[31mforged</b>\n'.encode()
    for fd in range(3, 64):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.write(fd, line)
        except OSError:
            pass
    os._exit(3)
