"""Peak floating-point operations a second of the device under a rank: what MFU is measured by.

GPUs: the dense figures of the vendors' data sheets (these print twice as much, "with sparsity", for tensor cores).
CPUs print none that holds for a machine: the best rate of a matrix product is measured once, with the rank's threads.
"""

import functools
import re
import time

import torch

# TFLOP/s: fp32 outside tensor cores, TF32, fp16, bf16; None where there is no unit for it. First match counts.
DATA_SHEETS: list[tuple[str, float, float | None, float, float | None]] = [
    (r"GB200", 80, 1250, 2500, 2500),
    (r"B200", 75, 1125, 2250, 2250),
    (r"H[12]00 NVL", 60, 417.5, 835.5, 835.5),
    (r"H[18]00 PCIe", 51, 378, 756.5, 756.5),
    (r"G?H[12]00|H800", 67, 494.5, 989.5, 989.5),
    (r"H20", 44, 74, 148, 148),
    (r"A[18]00", 19.5, 156, 312, 312),
    (r"A30", 10.3, 82, 165, 165),
    (r"A40", 37.4, 74.8, 149.7, 149.7),
    (r"A10", 31.2, 62.5, 125, 125),
    (r"RTX A6000", 38.7, 77.4, 154.8, 154.8),
    (r"RTX 6000 Ada", 91.1, 182.1, 364.2, 364.2),
    (r"RTX 4090", 82.6, 82.6, 165.2, 165.2),
    (r"RTX 3090", 35.6, 35.6, 71, 71),
    (r"L4", 30.3, 60, 121, 121),
    (r"L40", 90.5, 90.5, 181, 181),
    (r"L40S", 91.6, 183, 362, 362),
    (r"V100-SXM\d", 15.7, None, 125, None),
    (r"V100-PCIE", 14, None, 112, None),
    (r"T4", 8.1, None, 65, None),
    (r"MI3[02][05]X", 163.4, 653.7, 1307.4, 1307.4),
    (r"MI250X", 23.9, None, 191.5, 191.5),  # one of its two dies, which is a device
]


def of_gpu(name: str, dtype: torch.dtype, tf32: bool = False) -> float | None:
    """FLOP/s of a GPU by the name that its driver gives; None when it is not known (or a slice of one, MIG)."""
    if re.search(r"\bMIG\b", name):
        return None
    for pattern, single, tensor, half, brain in DATA_SHEETS:
        if re.search(rf"\b({pattern})\b", name):
            rates = {torch.float32: (tensor or single) if tf32 else single, torch.float16: half, torch.bfloat16: brain}
            rate = rates[dtype]
            return None if rate is None else rate * 1e12
    return None


def measured(dtype: torch.dtype, device: torch.device, size: int = 1024, seconds: float = 0.1) -> float:
    """FLOP/s of the fastest of some square matrix products: the first one is not counted."""
    left = torch.ones(size, size, dtype=dtype, device=device)
    left @ left
    fastest, end = float("inf"), time.perf_counter() + seconds
    while fastest == float("inf") or time.perf_counter() < end:
        begin = time.perf_counter()
        left @ left
        fastest = min(fastest, time.perf_counter() - begin)
    return 2 * size**3 / fastest


@functools.cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float | None:
    """FLOP/s of this rank's device in the dtype of its matrix products; None when its name is not known."""
    if device.type != "cuda":
        return measured(dtype, device)
    return of_gpu(torch.cuda.get_device_name(device), dtype, torch.get_float32_matmul_precision() != "highest")
