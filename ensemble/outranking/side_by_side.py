"""Tasks that threads share, the calling one among them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Value = TypeVar("Value")


def side_by_side(tasks: Sequence[Callable[[], Value]], threads: int) -> list[Value]:
    """Do some tasks by this thread and others; give what they give, in order."""
    waiting, values = iter(enumerate(tasks)), dict[int, Value]()  # each thread takes the next

    def work() -> None:
        for number, task in waiting:
            values[number] = task()

    with ThreadPoolExecutor(max(1, threads - 1)) as pool:
        others = [pool.submit(work) for _ in range(threads - 1)]
        work()
        for other in others:
            other.result()
    return [values[number] for number in range(len(tasks))]
