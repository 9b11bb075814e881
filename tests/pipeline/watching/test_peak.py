"""Peak rates: by the names that drivers give, or measured."""

import pytest
import torch

from pipeline.watching.peak import measured, of_gpu, peak_flops

BF16, FP16, FP32 = torch.bfloat16, torch.float16, torch.float32


@pytest.mark.parametrize(
    ("name", "dtype", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", BF16, 989.5),
        ("NVIDIA H100 PCIe", BF16, 756.5),
        ("NVIDIA H100 NVL", BF16, 835.5),
        ("NVIDIA H200", BF16, 989.5),
        ("NVIDIA H200 NVL", BF16, 835.5),
        ("NVIDIA GH200 480GB", BF16, 989.5),
        ("NVIDIA H20", BF16, 148),
        ("NVIDIA B200", BF16, 2250),
        ("NVIDIA GB200", BF16, 2500),
        ("NVIDIA A100-SXM4-80GB", BF16, 312),
        ("NVIDIA A100-PCIE-40GB", FP32, 19.5),
        ("NVIDIA A100 80GB PCIe", FP16, 312),
        ("NVIDIA A10", BF16, 125),
        ("NVIDIA L4", BF16, 121),
        ("NVIDIA L40", BF16, 181),
        ("NVIDIA L40S", BF16, 362),
        ("Tesla V100-SXM2-16GB", FP16, 125),
        ("Tesla V100-PCIE-32GB", FP32, 14),
        ("Tesla T4", FP16, 65),
        ("NVIDIA GeForce RTX 4090", BF16, 165.2),
        ("AMD Instinct MI300X", BF16, 1307.4),
    ],
)
def test_by_name(name: str, dtype: torch.dtype, tera: float) -> None:
    assert of_gpu(name, dtype) == pytest.approx(tera * 1e12)


@pytest.mark.parametrize(
    "name", ["NVIDIA A10G", "NVIDIA GeForce GTX 1080", "NVIDIA H100 80GB HBM3 MIG 1g.10gb", "NVIDIA T400", "cpu"]
)
def test_an_unknown_device_has_no_peak(name: str) -> None:
    assert of_gpu(name, BF16) is None


def test_what_a_device_has_no_unit_for() -> None:
    assert of_gpu("Tesla V100-SXM2-16GB", BF16) is None
    assert of_gpu("NVIDIA A100-SXM4-80GB", FP32, tf32=True) == pytest.approx(156e12)
    assert of_gpu("Tesla T4", FP32, tf32=True) == pytest.approx(8.1e12)


@pytest.mark.parametrize("dtype", [FP32, BF16])
def test_a_cpu_is_measured(dtype: torch.dtype) -> None:
    assert measured(dtype, torch.device("cpu"), size=64, seconds=0.0) > 0
    assert (peak_flops(torch.device("cpu"), dtype) or 0) > 1e6
