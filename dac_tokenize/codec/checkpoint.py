"""Load a DAC checkpoint by name, folder or model in hand, and say which one it is."""

import copy
import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dac_tokenize.errors import CodecError

if TYPE_CHECKING:
    import torch

SHIPPED_CODEC = "shipped"


@dataclass(frozen=True, slots=True)
class CodecIdentity:
    """Which codec made some codes.

    Attributes:
        model_id: name on the Hub, folder, or "shipped" for the codec in this package.
        revision: commit on the Hub; None where there is none.
        weights_checksum: SHA-256 over all weights, names and shapes, in hexadecimal.
        sampling_rate: Hz.
        hop_length: samples per frame.
        num_codebooks: codebooks kept.
        codebook_size: entries per codebook.
        precision: number format of the convolutions.
    """

    model_id: str
    revision: str | None
    weights_checksum: str
    sampling_rate: int
    hop_length: int
    num_codebooks: int
    codebook_size: int
    precision: str

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sampling_rate / self.hop_length


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A loaded model with its name.

    Attributes:
        model: a `DacModel` in float32 on the CPU, in evaluation mode.
        model_id: as in `CodecIdentity`.
        revision: as in `CodecIdentity`.
    """

    model: Any
    model_id: str
    revision: str | None

    def identity(self, num_codebooks: int | None, precision: str) -> CodecIdentity:
        """Return the identity of the codec cut to `num_codebooks` (None: all).

        Raises:
            CodecError: the codec has no such number of codebooks, or a stride of 1.
        """
        config = self.model.config
        if min(config.downsampling_ratios) < 2:
            # transformers' layer of stride 1 puts out one frame more than goes in.
            raise CodecError(
                f"the codec {self.model_id!r} has downsampling_ratios "
                f"{list(config.downsampling_ratios)}; expected each at least 2"
            )
        held = int(config.n_codebooks)
        if num_codebooks is None:
            num_codebooks = held
        if not 1 <= num_codebooks <= held:
            raise CodecError(
                f"num_codebooks is {num_codebooks}, but the codec {self.model_id!r} has {held}; "
                f"give a number from 1 to {held}"
            )
        return CodecIdentity(
            model_id=self.model_id,
            revision=self.revision,
            weights_checksum=weights_checksum(self.model),
            sampling_rate=int(config.sampling_rate),
            # Some published preprocessor files say 512 where the strides make 320
            # (https://github.com/huggingface/transformers/pull/39313): trust the strides.
            hop_length=math.prod(config.downsampling_ratios),
            num_codebooks=num_codebooks,
            codebook_size=int(config.codebook_size),
            precision=precision,
        )


def load_checkpoint(model: Any = None, revision: str | None = None) -> Checkpoint:
    """Load a codec.

    Args:
        model: a name on the Hub, a local folder, a `DacModel` (which is copied), or None for the
            codec that ships in this package.
        revision: branch, tag or commit on the Hub.

    Returns:
        The checkpoint, in float32 on the CPU.

    Raises:
        CodecError: it cannot be found or read, is not a DAC, or lacks weights.
    """
    import transformers

    DacModel: Any = transformers.DacModel  # noqa: N806 - its methods are not annotated
    if isinstance(model, DacModel):
        copied = copy.deepcopy(model).float().cpu().eval()
        return Checkpoint(copied, str(model.config._name_or_path or "DacModel"), revision)
    if model is None or model == SHIPPED_CODEC:
        folder = files("dac_tokenize") / "shipped_codec"
        return Checkpoint(_load(str(folder), None), SHIPPED_CODEC, None)
    if not isinstance(model, (str, Path)):
        raise CodecError(
            f"cannot load a codec from a {type(model).__name__}; expected a name on the Hub, a "
            "folder or a transformers DacModel"
        )
    loaded = _load(str(model), revision)
    commit = getattr(loaded.config, "_commit_hash", None)
    return Checkpoint(loaded, str(model), commit or revision)


def weights_checksum(model: Any) -> str:
    """Return the SHA-256 of all weights of `model`, in hexadecimal, whatever device they are on."""
    digest = hashlib.sha256()
    state: dict[str, torch.Tensor] = model.state_dict()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _load(name: str, revision: str | None) -> Any:
    """Load the `DacModel` called `name`, from safetensors only: nothing is ever unpickled."""
    import torch
    import transformers

    DacConfig: Any = transformers.DacConfig  # noqa: N806 - their methods are not annotated
    DacModel: Any = transformers.DacModel  # noqa: N806
    try:
        config_dict, _ = DacConfig.get_config_dict(name, revision=revision)
        if config_dict.get("model_type") != "dac":
            raise CodecError(
                f"{name!r} is a model of type {config_dict.get('model_type')!r}; expected 'dac'"
            )
        with _no_progress_bar():
            model, info = DacModel.from_pretrained(
                name,
                revision=revision,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
            )
    except CodecError:
        raise
    # transformers raises OSError for all it cannot find, and several kinds for files cut short or
    # configurations that do not fit; all of them mean the same to the user.
    except Exception as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
        at = f" at revision {revision!r}" if revision else ""
        raise CodecError(f"the codec {name!r}{at} does not load: {first_line}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise CodecError(
            f"the codec {name!r} lacks {len(missing)} of its weights ({missing[0]}, ...); "
            "expected a complete DacModel checkpoint in safetensors"
        )
    return model.eval()


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Hold back transformers' bar for the loading of weights, and put its setting back."""
    import transformers

    logging: Any = transformers.utils.logging  # its functions are not annotated
    enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if enabled:
            logging.enable_progress_bar()
