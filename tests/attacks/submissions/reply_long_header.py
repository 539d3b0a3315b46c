# attacks: result: a header claims 4 GB of header
# expects: a header of 4,294,967,295 bytes


def running_total(values):
    reply_raw(b"{}", header_length=2**32 - 1)
