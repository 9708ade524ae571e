"""All adapters on the same nodes."""

from __future__ import annotations

from porting_check.testing import AgreementContract


class TestAgreement(AgreementContract):
    frameworks = ("torch", "tensorflow")
