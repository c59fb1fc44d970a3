"""Property tests of the domains have no deadline: a busy machine is not a wrong model."""

from hypothesis import settings

settings.register_profile("domains", deadline=None)
settings.load_profile("domains")
