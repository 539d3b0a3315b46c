# attacks: result: an exit handler rewrites the results, then SystemExit
# expects: SystemExit

import atexit


def rewrite():
    for path in ("RESULTS_FOLDER/results.json", "/autograder/results/results.json", "LEFTOVER"):
        try:
            with open(path, "w") as file:
                file.write('{"score": 100}')
        except OSError:
            pass


def running_total(values):
    atexit.register(rewrite)
    sys.exit(0)
