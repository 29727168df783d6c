import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ensemble.checkpoints import file as checkpoint
from ensemble.checkpoints.load import load_member
from ensemble.images.open import open_source
from ensemble.images.settings import DigitsConfig
from ensemble.models import registry as models
from ensemble.models.heads import find_head
from ensemble.report.build.member import draw_filters
from ensemble.report.documents.member import MemberReport
from ensemble.report.pages.member import render
from ensemble.views.settings import CenterView
from jobs.show import describe
from jobs.stored_runs.finished import open_finished_run

from .conftest import Command


@pytest.fixture
def report(make_run: Callable[..., Path], tmp_path: Path) -> MemberReport:
    """The member `strong` of a run, with fresh weights."""
    network, path = models.build("resnet14_small", 10, 0), tmp_path / "net.safetensors"
    preprocessing = '{"size": 8, "mean": [0.5, 0.5, 0.5], "std": [0.3, 0.3, 0.3]}'
    about = {"classes": str(list(range(10))), "parameters": "1", "preprocessing": preprocessing}
    about |= {"architecture": "resnet14_small", "head": find_head(network, 10)}
    checkpoint.save(network, path, about)
    run = open_finished_run(make_run())
    return describe(run, load_member("strong", path, CenterView(), run.data_sha256), 7, 40)


def test_a_member_is_shown_with_its_answers_and_its_nearest_training_images(
    report: MemberReport, make_run: Callable[..., Path]
) -> None:
    assert (len(report.images), report.searched_images, report.left_out) == (7, 40, ())
    assert report.filters is not None
    index = open_source(DigitsConfig()).index()
    label_by_id = dict(zip(index.image_ids.tolist(), index.labels.tolist(), strict=True))
    for image in report.images:
        assert image.label == index.classes[label_by_id[image.image_id]]
        shares = [share for _, share in image.answers]
        assert len(shares) == 5
        assert shares == sorted(shares, reverse=True)
        distances = [near.distance for near in image.neighbours]
        assert len(distances) == 6
        assert distances == sorted(distances)
        assert all(
            near.label == index.classes[label_by_id[near.image_id]] for near in image.neighbours
        )


def test_the_page_is_one_file_and_every_name_is_escaped(report: MemberReport) -> None:
    evil = "<script>alert(1)</script>"
    shown = report.images[0].model_copy(update={"label": evil, "image_id": evil})
    page = render(report.model_copy(update={"name": evil, "run": evil, "images": (shown,)}))
    assert evil not in page
    assert page.count("&lt;script&gt;") >= 4
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("data:image/png;base64,") == 1 + 1 + 6


def test_each_filter_is_drawn_from_its_smallest_to_its_largest_weight() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(3, 18, 5))
    filters = draw_filters(network)
    assert filters is not None
    assert (filters.layer, filters.count, filters.height, filters.width) == ("1", 18, 5, 5)
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(filters.png_base64))))
    factor = 7  # the smallest that gives 32 pixels
    step = 5 * factor + 4
    assert picture.shape == (2 * step, 16 * step, 4)
    for number, weight in enumerate(network[1].weight.detach()):
        top, left = number // 16 * step, number % 16 * step
        tile = picture[top : top + 5 * factor : factor, left : left + 5 * factor : factor]
        assert (tile[..., 3] == 255).all()
        expected = 255 * (weight - weight.min()) / (weight.max() - weight.min())
        assert torch.equal(
            torch.from_numpy(tile[..., :3].astype(np.float32)), expected.permute(1, 2, 0).round()
        )
    assert not picture[step:, 2 * step :, 3].any()
    assert draw_filters(nn.Sequential(nn.Linear(3, 4))) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stron"], "no member 'stron'. Did you mean 'strong'"),
        (["strong"], "the weights of 'strong' (sha256 "),
    ],
)
def test_what_cannot_be_shown_is_one_message(
    command_here: Command, make_run: Callable[..., Path], words: Sequence[str], message: str
) -> None:
    done = command_here("show", make_run(), *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
