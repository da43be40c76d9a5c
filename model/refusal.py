"""The one kind of error that is meant for a person to read."""


class Refusal(ValueError):
    """One sentence that names the value, the rule and the next move.

    Commands print it and leave with exit code 2; a device may send its *class*, never its words. A refusal must not
    quote diary text: it names files, line numbers, keys and numbers.
    """


class Damaged(Refusal):
    """What this machine keeps is gone, garbled or does not open: whoever asked did nothing wrong."""
