"""Requests that wait are predicted together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from ensemble.images.inputs import Pixels
from ensemble.serving.service import Answer

Answers = list[Answer | str]


class Together:
    """Hands requests on in batches, one batch at a time; a request alone does not wait for others.

    Whatever arrives while a batch is predicted is in the next one. `serve.batch` of Ray Serve makes a batch of a
    request as soon as it is there, and then lets the batch wait, so that under load each has one request.

    Args:
        answer: Answers images, in their order.
        max_requests: Requests in a batch.
        wait_s: The longest that a batch waits for more requests, in seconds.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Pixels]], Awaitable[Answers]],
        max_requests: int,
        wait_s: float = 0.0,
    ) -> None:
        self._answer, self._max_requests, self._wait_s = answer, max_requests, wait_s
        self._waiting: list[tuple[Sequence[Pixels], asyncio.Future[Answers]]] = []
        self._is_full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def answer(self, images: Sequence[Pixels]) -> Answers:
        """Answer the images of one request.

        Raises:
            Exception: What `answer` raised for the batch.
        """
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((images, future))
        if len(self._waiting) >= self._max_requests:
            self._is_full.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._answer_waiting())
        answers: Answers = await future
        return answers

    async def _answer_waiting(self) -> None:
        while self._waiting:
            if self._wait_s and len(self._waiting) < self._max_requests:
                self._is_full.clear()
                with suppress(TimeoutError):  # those that are there are a batch
                    await asyncio.wait_for(self._is_full.wait(), self._wait_s)
            batch = self._waiting[: self._max_requests]
            del self._waiting[: len(batch)]
            await self._answer_batch([one for one in batch if not one[1].cancelled()])

    async def _answer_batch(
        self, batch: Sequence[tuple[Sequence[Pixels], asyncio.Future[Answers]]]
    ) -> None:
        try:
            answers = iter(await self._answer([image for images, _ in batch for image in images]))
            results = [[next(answers) for _ in images] for images, _ in batch]
        # Broad, because those who asked must hear of it, whatever it is.
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), result in zip(batch, results, strict=True):
            if not future.done():
                future.set_result(result)
