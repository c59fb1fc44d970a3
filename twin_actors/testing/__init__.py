"""Fixtures and checks for this project's tests and for the authors of domains."""

from twin_actors.testing.domains import check_domain

__all__ = ["check_domain"]
