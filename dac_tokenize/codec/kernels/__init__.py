"""Triton kernels of the GPU path, each beside a plain reference; needs Triton when imported."""
