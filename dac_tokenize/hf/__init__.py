"""`encode_batch` and `decode_batch` for `datasets`' `map`, and the features of what they give."""

from dac_tokenize.hf.decode import decode_batch
from dac_tokenize.hf.encode import codes_features, encode_batch

__all__ = ["codes_features", "decode_batch", "encode_batch"]
