# attacks: files: plants files where another test or submission may look
# attempts: 9
# undefended: DONE

from pathlib import Path


def running_total(values):
    graded = Path(__file__).parents[2]
    for place in (
        "/tmp", "/var/tmp", "/dev/shm", "/run", "/run/lock", os.path.expanduser("~root"),
        str(graded / "run/cache/pycache"), str(graded / "run/cache/numba"), str(graded.parent),
    ):
        attempt(place, lambda place=place: open(f"{place}/LEFTOVER_NAME", "w").close())
    confess()
