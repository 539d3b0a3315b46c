# attacks: result: an answer that never ends
# expects: no answer within 1.5 s


def running_total(values):
    end = channel()
    end.sendall(struct.pack("<4sIQ", b"LSW1", 1 << 20, 0))
    while True:
        end.sendall(b" ")
        time.sleep(0.01)
