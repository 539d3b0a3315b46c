# attacks: result: ends the process with status 0 while it is imported
# expects: exited with status 0

os._exit(0)
