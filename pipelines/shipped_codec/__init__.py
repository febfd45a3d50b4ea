"""Recipe of the codec that the package ships: data, training, evaluation and export.

`pipelines/train_shipped_codec.py` is the one command that runs it.
"""
