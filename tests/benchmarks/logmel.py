"""Log-mel of 32 ten-second clips on one core: `LogMel` against a call of torchaudio a clip.

python tests/benchmarks/logmel.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torchaudio.compliance.kaldi import fbank

sys.path.insert(0, str(Path(__file__).parents[2]))

from datamodules.streams.audio import LogMel
from datamodules.types import AudioInputs

CLIPS, SECONDS, REPEATS = 32, 10, 30


def best_seconds(*functions: Callable[[], object]) -> list[float]:
    """The fastest of several calls of each function, in turn: what else the machine does only ever adds."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(REPEATS):
        for function, taken in zip(functions, times, strict=True):
            start = time.perf_counter()
            function()
            taken.append(time.perf_counter() - start)
    return [min(taken) for taken in times]


def main() -> None:
    torch.set_num_threads(1)
    inputs = AudioInputs()
    rate = inputs.sample_rate
    waveform = 0.1 * torch.randn(CLIPS, SECONDS * rate, generator=torch.Generator().manual_seed(0))
    length = torch.full((CLIPS,), SECONDS * rate)
    log_mel = LogMel(inputs)

    def by_clip() -> torch.Tensor:
        return torch.stack(
            [
                fbank(
                    (clip - clip.mean())[None],
                    htk_compat=True,
                    sample_frequency=rate,
                    use_energy=False,
                    window_type="hanning",
                    num_mel_bins=inputs.mel_bins,
                    dither=0.0,
                    frame_shift=10,
                )
                for clip in waveform
            ]
        )

    reference = by_clip()
    difference = (log_mel(waveform, length)[:, : reference.shape[1]] - reference).abs().max()
    slow, fast = best_seconds(by_clip, lambda: log_mel(waveform, length))
    print(f"{CLIPS} clips of {SECONDS} s, one core: torchaudio {slow * 1e3:.1f} ms, LogMel {fast * 1e3:.1f} ms")
    print(f"ratio {slow / fast:.2f}, max difference {difference:.1e}")


if __name__ == "__main__":
    main()
