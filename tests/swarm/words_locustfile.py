"""The kit's locustfile with words only, each of which fits into a packet."""

import locustfile


class WordUser(locustfile.CapitalizationUser):
    """A user that sends words."""


WordUser.tasks = [locustfile.CapitalizationUser.word]
