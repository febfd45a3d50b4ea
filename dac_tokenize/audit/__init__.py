"""Audits: is a corpus sound, what did its tokens keep, and are they what the codec gives?

scan (every row, no source) -> sampling -> measuring (source, decoded sound, plain `DacModel`)
-> summary and verdict -> report (JSON, Parquet, HTML). `auditing` runs all of it, `transform` does
so on Beam, and `compare` puts codecs side by side.
"""
