from threading import Event, active_count

from tasks.execution.background import repeated


def test_the_work_is_repeated_until_it_is_done_or_the_block_ends() -> None:
    calls, third, before = [], Event(), active_count()

    def work() -> bool:
        calls.append(len(calls))
        if len(calls) == 3:
            third.set()
        return len(calls) == 3

    with repeated(work, 0.001, "test"):
        assert third.wait(60)
    assert calls == [0, 1, 2]
    assert active_count() == before


def test_a_short_block_ends_before_the_first_call() -> None:
    calls: list[None] = []
    with repeated(lambda: calls.append(None) is None, 3600, "test"):
        pass
    assert not calls
