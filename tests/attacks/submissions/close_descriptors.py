# attacks: result: closes every descriptor and lives on
# expects: ended the process before it answered


def running_total(values):
    os.closerange(0, 64)
    time.sleep(60)
