"""A reference's sound as float32 blocks at the codec's sampling rate."""
