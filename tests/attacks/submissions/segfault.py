# attacks: resources: reads address 0
# expects: SIGSEGV \(signal 11\) in running_total


def running_total(values):
    return ctypes.string_at(0)
