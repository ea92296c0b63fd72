"""Which LoRA checkpoint to ship, and what each one broke."""

__version__ = "0.1.0"
