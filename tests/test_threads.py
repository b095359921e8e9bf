"""Threads over the parts of a study: order, errors, one thread."""

import threading

import pytest
import torch

from anymri.threads import map_parts


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_parts(threads):
    found = map_parts(lambda key, part: (key, part * 2), {"b": 1, "a": 2, "c": 3})
    assert list(found.items()) == [("b", ("b", 2)), ("a", ("a", 4)), ("c", ("c", 6))]


def test_the_error_of_the_first_part_is_raised_whichever_fails_first(threads):
    later = threading.Event()

    def fail(key, part):
        if key == "first":
            assert threads == 1 or later.wait(10)  # the second has failed by now
            raise ValueError(key)
        later.set()
        raise ValueError(key)

    with pytest.raises(ValueError, match="first"):
        map_parts(fail, {"first": 0, "second": 0})


def test_parts_run_beside_each_other_as_far_as_torch_has_threads(threads):
    meeting = threading.Barrier(threads)
    map_parts(lambda key, part: meeting.wait(10), dict.fromkeys(range(threads)))
    assert map_parts(lambda key, part: part, {}) == {}
