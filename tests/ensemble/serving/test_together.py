"""Requests in batches: each gets its own answers, and those that wait are answered together."""

import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from ensemble.images.inputs import Pixels
from ensemble.serving.service import Answer
from ensemble.serving.together import Together


def _image(value: int) -> Pixels:
    return np.full((1, 1, 3), value, np.uint8)


class Recorder:
    """Answers an image by its value, and remembers the batches; the first one waits until it may go on."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.may_go_on = asyncio.Event()

    async def answer(self, images: Sequence[Pixels]) -> list[Answer | str]:
        self.batches.append(len(images))
        await self.may_go_on.wait()
        if any(image[0, 0, 0] == 255 for image in images):
            raise ValueError("255")
        return [str(image[0, 0, 0]) for image in images]


def test_what_arrives_meanwhile_is_the_next_batch() -> None:
    async def ask() -> tuple[list[int], list[list[Answer | str]]]:
        recorder = Recorder()
        together = Together(recorder.answer, 4)
        requests = [[_image(10 * n + k) for k in range(n % 3 + 1)] for n in range(8)]
        asked = [asyncio.create_task(together.answer(images)) for images in requests[:1]]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asked += [asyncio.create_task(together.answer(images)) for images in requests[1:]]
        await asyncio.sleep(0)
        recorder.may_go_on.set()
        return recorder.batches, await asyncio.gather(*asked)

    batches, answers = asyncio.run(ask())
    # One alone, then 4 requests of 2, 3, 1 and 2 images, then the rest.
    assert batches == [1, 8, 6]
    assert answers == [[str(10 * n + k) for k in range(n % 3 + 1)] for n in range(8)]


def test_a_batch_waits_for_others_as_long_as_it_may() -> None:
    async def ask(count: int, wait_s: float) -> list[int]:
        recorder = Recorder()
        recorder.may_go_on.set()
        together = Together(recorder.answer, 3, wait_s)
        await asyncio.gather(*(together.answer([_image(n)]) for n in range(count)))
        return recorder.batches

    assert asyncio.run(ask(3, 3600.0)) == [3]  # full
    assert asyncio.run(ask(2, 0.001)) == [2]


def test_an_error_reaches_all_of_its_batch_and_no_other() -> None:
    async def ask() -> list[object]:
        recorder = Recorder()
        recorder.may_go_on.set()
        together = Together(recorder.answer, 2)
        asked = [together.answer([_image(value)]) for value in (1, 255, 3)]
        return list(await asyncio.gather(*asked, return_exceptions=True))

    first, second, third = asyncio.run(ask())
    for error in (first, second):
        with pytest.raises(ValueError, match="255"):
            raise error if isinstance(error, Exception) else AssertionError(error)
    assert third == ["3"]


def test_a_request_that_was_given_up_is_not_predicted() -> None:
    async def ask() -> list[int]:
        recorder = Recorder()
        together = Together(recorder.answer, 4)
        asked = [asyncio.create_task(together.answer([_image(n)])) for n in range(3)]
        asked[1].cancel()
        recorder.may_go_on.set()
        await asyncio.gather(*asked, return_exceptions=True)
        later = asyncio.create_task(together.answer([_image(9)]))
        assert await later == ["9"]
        return recorder.batches

    assert sum(asyncio.run(ask())) == 3
