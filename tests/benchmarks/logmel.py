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

from datamodules.audio import LogMel  # noqa: E402
from datamodules.types import AudioInputs  # noqa: E402

CLIPS, SECONDS, REPEATS = 32, 10, 10


def best_seconds(function: Callable[[], object]) -> float:
    """The fastest of several calls: what else the machine does only ever adds."""
    function()
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


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
    slow, fast = best_seconds(by_clip), best_seconds(lambda: log_mel(waveform, length))
    print(f"{CLIPS} clips of {SECONDS} s, one core: torchaudio {slow * 1e3:.1f} ms, LogMel {fast * 1e3:.1f} ms")
    print(f"ratio {slow / fast:.2f}, max difference {difference:.1e}")


if __name__ == "__main__":
    main()
