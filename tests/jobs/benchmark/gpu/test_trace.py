import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.benchmark.gpu.trace import Activity, account, kind_of

NAMES = ["sm90_xmma_fprop_implicit_gemm", "Memcpy HtoD (Pinned -> Device)", "relu_kernel"]


@st.composite
def activities(draw: st.DrawFn) -> list[Activity]:
    spans = draw(
        st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 999), st.integers(0, 99)))
    )
    return [Activity(name, start, start + took) for name, start, took in spans]


@given(activities())
def test_shares_are_parts_of_the_span_whatever_overlaps(found: list[Activity]) -> None:
    result = account(found)
    assert result.launches == len(found)
    assert all(share >= 0 for share in result.shares.values())
    if result.span_ms > 1e-6:
        assert sum(result.shares.values()) == pytest.approx(1)


def test_gaps_and_copies_are_told_from_arithmetic() -> None:
    result = account([Activity(NAMES[0], 0, 60), Activity(NAMES[1], 70, 100)])
    assert result.shares == pytest.approx(
        {"arithmetic": 0.6, "copies": 0.3, "other": 0.0, "idle": 0.1}
    )
    assert (result.launches, result.copies, result.span_ms) == (2, 1, pytest.approx(0.1))
    assert "fewer copies" in result.advice()
    assert account([Activity(NAMES[0], 0, 1)]).advice() == "nothing but faster arithmetic"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (NAMES[0], "arithmetic"),
        (NAMES[1], "copies"),
        (NAMES[2], "other"),
        ("void cudnn::ops::nchwToNhwcKernel<float>", "copies"),
        ("nvjet_tst_128x256_64x4_2x1_v_bz_coopA_NNT", "arithmetic"),
        ("void cudnn::bn_fw_tr_1C11_kernel_NHWC<__half, float>", "other"),
        ("bfloat16_copy_kernel_cuda", "copies"),
        ("upsample_bilinear2d_aa_out_frame", "other"),
    ],
)
def test_kernels_are_known_by_their_names(name: str, kind: str) -> None:
    assert kind_of(name) == kind
