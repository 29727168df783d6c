"""The console of rich that results and progress are printed on."""

from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    RenderableType,
    RenderHook,
    RenderResult,
)
from rich.segment import Segment

from jobs.terminal import is_quiet, printable

# The width of the result tables where the output is not a terminal, and so has no width.
LOG_WIDTH = 120


def open_console(stderr: bool = False) -> Console:
    """Open a console that shows control characters instead of obeying them, wide enough for tables in a log.

    Args:
        stderr: Print on stderr, as progress beside a result is; nothing at all under `--quiet`.
    """
    console = Console(stderr=stderr, quiet=stderr and is_quiet())
    if not console.is_terminal:
        console.width = LOG_WIDTH
    console.push_render_hook(_Hook())
    return console


class _Printable:
    """A renderable whose text is printable; styles, and what moves the cursor, are rich's own."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for segment in console.render(self._renderable, options):
            text = segment.text if segment.control else printable(segment.text)
            yield Segment(text, segment.style, segment.control)


class _Hook(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Printable(renderable) for renderable in renderables]
