"""Count what a vendor would count."""


def most_in(times, seconds):
    """Return the most of ``times`` in any window of so many seconds, its end exclusive."""
    times = sorted(times)
    most = first = 0
    for place, moment in enumerate(times):
        while times[first] <= moment - seconds:
            first += 1
        most = max(most, place - first + 1)
    return most
