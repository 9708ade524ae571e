"""All adapters on the same nodes."""

from __future__ import annotations

from porting_check.testing import AgreementContract


class TestAgreement(AgreementContract):
    frameworks = ("torch", "tensorflow", "jax", "onnxruntime")
    lenient = {"onnxruntime": "it has kernels for few types, and no dilation with auto_pad"}  # noqa: RUF012
    max_examples = 10
