"""Ray's control store as a place for a city's plan, beside a folder."""

import os

import pytest

from twin_actors.runtime.shelf import RayShelf


def test_a_shelf_in_ray_is_like_a_folder(ray_session, tmp_path):
    shelf, other = RayShelf("one"), RayShelf("one-more")
    with pytest.raises(FileNotFoundError, match=r"Ray keeps no plan.json of one: the city has ended"):
        shelf.read("plan.json")
    big = os.urandom(300_000)
    shelf.write("plan.json", b"first")
    other.write("plan.json", b"theirs")
    before = shelf.stamp("plan.json")
    shelf.write("plan.next.json", big)
    assert shelf.stamp("plan.json") == before
    shelf.rename("plan.next.json", "plan.json")
    assert (shelf.read("plan.json"), shelf.has("plan.next.json")) == (big, False)
    assert shelf.stamp("plan.json") != before
    shelf.clear()
    assert not shelf.has("plan.json")
    assert other.read("plan.json") == b"theirs"
    other.clear()
