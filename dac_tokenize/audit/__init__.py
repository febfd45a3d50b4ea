"""Audits: is a corpus sound, what did its tokens keep, and are they what the codec gives?

checks (every row, no source) -> sampling -> measuring (source, decoded sound, plain `DacModel`)
-> verdict -> report (JSON, Parquet, HTML). `units` is the plain twin of the Beam transform.
"""
