import os
import threading
import warnings

import pytest
from PIL import Image

from delineate.data.quiet_pillow import quiet_pillow


def bomb_warning():
    Image._decompression_bomb_check((Image.MAX_IMAGE_PIXELS, 1))
    Image._decompression_bomb_check((Image.MAX_IMAGE_PIXELS + 1, 1))


def test_pillow_is_silent_inside_and_heard_outside():
    before = list(warnings.filters)
    with quiet_pillow():
        bomb_warning()
    assert warnings.filters == before
    with pytest.raises(Image.DecompressionBombWarning):
        bomb_warning()


def test_other_warnings_are_heard_inside():
    with quiet_pillow(), pytest.warns(UserWarning, match="from elsewhere"):
        warnings.warn("from elsewhere")


def test_threads_that_overlap_leave_the_filters_as_they_were():
    before = list(warnings.filters)
    barrier = threading.Barrier(8)

    def read():
        barrier.wait()
        for _ in range(200):
            with quiet_pillow():
                bomb_warning()

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert warnings.filters == before


def test_a_filter_that_someone_else_took_out_is_no_error():
    with warnings.catch_warnings():
        with quiet_pillow():
            warnings.resetwarnings()
        assert warnings.filters == []
        with quiet_pillow():
            assert len(warnings.filters) == 1  # put back although it was taken out
            bomb_warning()
        assert warnings.filters == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of forks while threads run
def test_a_child_forked_while_a_thread_reads_can_read():
    inside, done = threading.Event(), threading.Event()

    def read():
        with quiet_pillow():
            inside.set()
            done.wait(10)

    thread = threading.Thread(target=read)
    thread.start()
    inside.wait(10)
    child = os.fork()
    if child == 0:
        try:
            with quiet_pillow():
                bomb_warning()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    assert status == 0
