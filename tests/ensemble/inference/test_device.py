import pytest
import torch

from ensemble.inference.device import device_kind, full_float32


def test_a_cpu_is_of_the_kind_cpu() -> None:
    assert device_kind(torch.device("cpu")) == "cpu"


@pytest.mark.parametrize("before", [False, True])
def test_float32_is_full_within_the_block_and_as_before_after_it(before: bool) -> None:
    original = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = before
    try:
        with full_float32():
            assert not torch.backends.cudnn.allow_tf32
        assert torch.backends.cudnn.allow_tf32 == before
    finally:
        torch.backends.cudnn.allow_tf32 = original


@pytest.mark.parametrize("before", ["highest", "high", "medium"])
def test_matrix_products_are_full_within_the_block_and_as_before_after_it(before: str) -> None:
    original = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(before)
    try:
        with full_float32():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == before
    finally:
        torch.set_float32_matmul_precision(original)


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="needs torch 2.9")
def test_a_choice_by_the_newer_settings_of_torch_is_no_mistake() -> None:
    settings = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    original = settings.fp32_precision
    settings.fp32_precision = "ieee" if original == "tf32" else "tf32"
    try:
        chosen = settings.fp32_precision
        with full_float32():
            assert settings.fp32_precision == "ieee"
        assert settings.fp32_precision == chosen
    finally:
        settings.fp32_precision = original


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_convolutions_of_float32_agree_with_those_of_a_cpu() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 64, 32, 32, generator=generator)
    kernels = torch.randn(64, 64, 3, 3, generator=generator)
    expected = torch.nn.functional.conv2d(images, kernels)
    with full_float32():
        found = torch.nn.functional.conv2d(images.cuda(), kernels.cuda()).cpu()
    # TF32 is off by about 1e-3 of the largest.
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())
