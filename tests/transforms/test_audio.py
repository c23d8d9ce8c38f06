from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from earsight import random
from earsight.config import AudioConfig
from earsight.transforms.audio import Normalise, Spectrogram, augment_audio, stretch_seconds
from earsight.transforms.mel import mel_filters

ANALYSIS = AudioConfig()
AT_SCALE = AudioConfig(hop=0.01, bands=257)
PUBLISHED = AudioConfig(
    n_fft=1024,
    window=1024,
    hop=0.01,
    bands=257,
    padding="zeros",
    precision="float64",
    top_db=100.0,
    stretch=(2.0, 2.0),
)
PUBLISHED_SMALL = replace(PUBLISHED, n_fft=512, window=512, bands=129)
MEL = AudioConfig(
    rate=16000,
    duration=1.6,
    spectrogram="mel",
    n_fft=400,
    window=400,
    hop=0.01,
    bands=80,
    padding="zeros",
    stretch=(1.6, 1.6),
)
SMALL_MEL = replace(MEL, rate=4000, duration=0.5, n_fft=130, window=120, bands=12)
SMALL = AudioConfig(rate=4000, duration=0.5, n_fft=64, window=60, bands=17, stretch=(0.35, 0.7))
OVERLAPPING = AudioConfig(
    rate=4000, duration=0.5, n_fft=256, window=256, hop=0.01, bands=129, stretch=(0.3, 0.8)
)


def sound(batch: int, samples: int, seed: int = 0) -> Tensor:
    """Noise whose loudness changes by several orders of magnitude over time."""
    rng = np.random.default_rng(seed)
    loudness = 10 ** np.interp(
        np.arange(samples), np.linspace(0, samples, 9), rng.uniform(-3, 0, 9)
    )
    return torch.from_numpy((rng.standard_normal((batch, samples)) * loudness).astype(np.float32))


def oracle(wave: NDArray[np.float32], config: AudioConfig) -> NDArray[np.float64]:
    """All frames ``(frames, bands)`` of one clip, in float64, by NumPy."""
    n, hop, length = config.n_fft, config.hop_samples, config.window
    window = np.zeros(n)
    start = (n - length) // 2
    window[start : start + length] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    padded = np.pad(wave.astype(np.float64), n // 2, mode="reflect")
    rows = []
    for first in range(0, len(padded) - n + 1, hop):
        power = np.abs(np.fft.rfft(padded[first : first + n] * window)) ** 2
        if config.bands < len(power):
            pairs = [(power[k] + power[k + 1]) / 2 for k in range(1, len(power), 2)]
            power = np.array([power[0], *pairs])
        rows.append(10 * np.log10(np.maximum(power, 1e-10)))
    return np.array(rows)


def stretched(
    wave: NDArray[np.float32], config: AudioConfig, seconds: float
) -> NDArray[np.float64]:
    """The spectrogram of the first seconds, read at evenly spread places, band by band."""
    levels = oracle(wave[: round(seconds * config.rate)], config)
    at = np.arange(config.frames) * round(seconds * config.rate) / (config.duration * config.rate)
    bands = [np.interp(at, np.arange(len(levels)), levels[:, k]) for k in range(config.bands)]
    return np.stack(bands, 1)


@pytest.mark.parametrize(("config", "shape"), [(ANALYSIS, (100, 129)), (AT_SCALE, (200, 257))])
def test_spectrogram_equals_the_oracle(
    config: AudioConfig, shape: tuple[int, int], device: torch.device
) -> None:
    wave = sound(2, 48000)
    made = Spectrogram(config).to(device)(wave.to(device)).cpu()
    assert made.shape == (2, 1, *shape)
    assert made.dtype == torch.float32
    for n in range(2):
        expected = oracle(wave[n].numpy(), config)[: shape[0]]
        quiet = expected < -60  # float32 rounding of the loud bins reaches into these
        # In float32; the last digits are those of the processor's Fourier transform.
        np.testing.assert_allclose(made[n, 0].numpy()[~quiet], expected[~quiet], atol=2e-3)
        np.testing.assert_allclose(
            10 ** (made[n, 0].numpy() / 10), 10 ** (expected / 10), rtol=1e-4, atol=1e-8
        )


def test_the_oracle_is_librosa() -> None:
    import librosa

    wave = sound(1, 4800)[0].numpy()
    spectrum = librosa.stft(
        wave.astype(np.float64),
        n_fft=512,
        hop_length=240,
        win_length=480,
        window="hann",
        pad_mode="reflect",
    )
    made = librosa.power_to_db(np.abs(spectrum.T) ** 2, ref=1.0, amin=1e-10, top_db=None)
    np.testing.assert_allclose(oracle(wave, AT_SCALE), made, atol=1e-9)


@pytest.mark.parametrize("config", [ANALYSIS, AT_SCALE])
def test_spectrogram_of_even_sound_is_within_1e_4_decibel(config: AudioConfig) -> None:
    wave = torch.from_numpy(np.random.default_rng(3).standard_normal((2, 48000)).astype(np.float32))
    made = Spectrogram(config)(wave)
    for n in range(2):
        expected = oracle(wave[n].numpy(), config)[: config.frames]
        loud = expected > 0
        assert loud.mean() > 0.98
        np.testing.assert_allclose(made[n, 0].numpy()[loud], expected[loud], atol=1e-4)


def test_power_by_the_definition() -> None:
    """One frame by the sum that defines the transform, with the window placed by hand."""
    config, frame = SMALL, 7
    wave = sound(1, 2000)
    made = 10 ** (Spectrogram(config)(wave)[0, 0, frame].double().numpy() / 10)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(60) / 60)
    first = frame * config.hop_samples - 30
    piece = wave[0, first : first + 60].double().numpy() * window
    angles = -2j * np.pi * np.outer(np.arange(33), np.arange(2, 62)) / 64
    power = np.abs(np.exp(angles) @ piece) ** 2
    expected = [power[0]] + [(power[k] + power[k + 1]) / 2 for k in range(1, 33, 2)]
    np.testing.assert_allclose(made, expected, rtol=1e-4)


def test_silence_is_minus_100_decibel(device: torch.device) -> None:
    wave = torch.zeros(2, 67200, device=device)
    spectrogram = Spectrogram(ANALYSIS).to(device)
    assert (spectrogram(wave) == -100).all()
    assert (spectrogram(wave, torch.tensor([1.4, 2.7])) == -100).all()


@pytest.mark.parametrize("config", [ANALYSIS, AT_SCALE, SMALL, OVERLAPPING])
def test_the_duration_itself_is_the_plain_cut(config: AudioConfig) -> None:
    wave = sound(3, round(config.stretch[1] * config.rate))
    spectrogram = Spectrogram(config)
    plain = spectrogram(wave[:, : spectrogram.samples])
    seconds = torch.full((3,), config.duration, dtype=torch.float64)
    assert torch.equal(spectrogram(wave, seconds), plain)
    assert torch.equal(spectrogram(wave), plain)
    mixed = torch.tensor([config.stretch[0], config.duration, config.stretch[1]])
    torch.testing.assert_close(spectrogram(wave, mixed)[1], plain[1], atol=1e-4, rtol=0)


@given(seed=st.integers(0, 1000), seconds=st.floats(0.3, 0.8))
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("config", [SMALL, OVERLAPPING])
def test_stretching_equals_naive_interpolation(
    config: AudioConfig, seed: int, seconds: float
) -> None:
    wave = sound(1, 3200, seed)
    made = Spectrogram(config)(wave, torch.tensor([seconds], dtype=torch.float64))
    expected = stretched(wave[0].numpy(), config, seconds)
    assert made.shape == (1, 1, config.frames, config.bands)
    # In float32 the quietest levels, near the floor, are those of rounding.
    np.testing.assert_allclose(made[0, 0].numpy(), expected, atol=0.1)
    assert np.abs(made[0, 0].numpy() - expected).mean() < 1e-4


def test_stretching_at_full_size(device: torch.device) -> None:
    wave = sound(3, 67200)
    seconds = torch.tensor([1.4, 2.0, 2.8], dtype=torch.float64)
    made = Spectrogram(ANALYSIS).to(device)(wave.to(device), seconds).cpu()
    for n in range(3):
        expected = stretched(wave[n].numpy(), ANALYSIS, float(seconds[n]))
        np.testing.assert_allclose(made[n, 0].numpy(), expected, atol=0.05)
        assert np.abs(made[n, 0].numpy() - expected).mean() < 1e-4


@pytest.mark.parametrize("config", [SMALL, OVERLAPPING])
def test_what_follows_the_wanted_seconds_has_no_influence(config: AudioConfig) -> None:
    wave = sound(2, 3200)
    seconds = torch.tensor([0.4, 0.55], dtype=torch.float64)
    other = wave.clone()
    other[0, 1600:] = 9.0
    other[1, 2200:] = -9.0
    spectrogram = Spectrogram(config)
    assert torch.equal(spectrogram(other, seconds), spectrogram(wave, seconds))
    assert torch.equal(spectrogram(other[:, :2200], seconds), spectrogram(wave, seconds))


def test_a_clip_is_the_same_alone_and_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    wave = sound(4, 67200)
    index = np.array([8, 3, 99, 2**40])
    spectrogram = Spectrogram(ANALYSIS)

    def run(rows: list[int]) -> Tensor:
        louder = augment_audio(wave[rows], ANALYSIS, seed=1, index=index[rows], view=0)
        drawn = stretch_seconds(ANALYSIS, seed=1, index=index[rows], view=0)
        made: Tensor = spectrogram(louder, torch.from_numpy(drawn))
        return made

    together = run([0, 1, 2, 3])
    for n in range(4):
        assert torch.equal(run([n])[0], together[n])
    assert torch.equal(run([2, 0, 3, 1]), together[[2, 0, 3, 1]])
    # all at once, as on an accelerator
    at_once = spectrogram._clips(wave, np.array([33600, 48000, 50001, 67200]))
    one_by_one = spectrogram(wave, torch.tensor([1.4, 2.0, 50001 / 24000, 2.8]).double())
    torch.testing.assert_close(at_once, one_by_one[:, 0], atol=1e-3, rtol=0)


def test_volume(device: torch.device) -> None:
    wave, index = sound(3, 100).to(device), np.array([5, 6, 7])
    before = wave.clone()
    made = augment_audio(wave, ANALYSIS, seed=2, index=torch.from_numpy(index), view=1)
    for n in range(3):
        factor = 0.9 + 0.2 * float(random.uniform(2, "volume", int(index[n]), 1))
        torch.testing.assert_close(made[n], before[n] * factor)
    assert torch.equal(wave, before)
    assert augment_audio(wave, AudioConfig(volume=(1.0, 1.0)), seed=2, index=index, view=1) is wave


def test_stretch_draws() -> None:
    index = np.arange(2000)
    drawn = stretch_seconds(ANALYSIS, seed=0, index=index, view=0)
    assert drawn.shape == (2000,)
    assert 1.4 <= drawn.min() < 1.41
    assert 2.79 < drawn.max() <= 2.8
    np.testing.assert_array_equal(
        stretch_seconds(ANALYSIS, seed=0, index=index[7:9], view=0), drawn[7:9]
    )
    assert not (stretch_seconds(ANALYSIS, seed=0, index=index, view=1) == drawn).any()
    off = AudioConfig(stretch=(2.0, 2.0))
    assert (stretch_seconds(off, seed=0, index=index, view=0) == 2.0).all()


def test_normalise() -> None:
    mean, std = torch.tensor([1.0, -50.0]), torch.tensor([2.0, 10.0])
    module = Normalise(mean, std)
    x = torch.tensor([[[[3.0, -70.0], [0.0, -50.0]]]])
    torch.testing.assert_close(module(x), torch.tensor([[[[1.0, -2.0], [-0.5, 0.0]]]]))
    assert set(module.state_dict()) == {"mean", "std"}
    mean.zero_()
    assert module.mean[0] == 1.0


def test_bad_input_is_refused() -> None:
    spectrogram = Spectrogram(ANALYSIS)
    with pytest.raises(ValueError, match="47999 samples, but 48000 are needed"):
        spectrogram(torch.zeros(1, 47999))
    with pytest.raises(ValueError, match="60000 are needed"):
        spectrogram(torch.zeros(1, 48000), torch.tensor([2.5]))
    with pytest.raises(ValueError, match="too short for n_fft=512"):
        spectrogram(torch.zeros(1, 48000), torch.tensor([0.01]))
    with pytest.raises(ValueError, match="floating-point samples"):
        spectrogram(torch.zeros(1, 48000, dtype=torch.int16))
    with pytest.raises(ValueError, match="one sample index"):
        augment_audio(torch.zeros(2, 10), ANALYSIS, seed=0, index=np.arange(3), view=0)
    with pytest.raises(ValueError, match="take a hop of whole samples"):
        Spectrogram(AudioConfig(rate=22070, hop=0.01, duration=10.0, bands=257))
    with pytest.raises(ValueError, match="64 bands cannot be made"):
        Spectrogram(AudioConfig(bands=64))
    with pytest.raises(ValueError, match="one value per band"):
        Normalise(torch.zeros(2), torch.ones(3))
    with pytest.raises(ValueError, match="deviations positive"):
        Normalise(torch.zeros(2), torch.tensor([1.0, 0.0]))


def published(wave: NDArray[np.float32], bands: int) -> NDArray[np.float64]:
    """The published code's spectrogram of a clip of 2 s (methods.md §7), by librosa."""
    import librosa

    power = (
        np.abs(librosa.stft(wave.astype(np.float64), n_fft=4 * (bands - 1), hop_length=240)) ** 2
    )
    paired = np.vstack([power[:1], power[1:].reshape(bands - 1, 2, -1).mean(1)])
    levels: NDArray[np.float64] = librosa.power_to_db(paired, ref=1.0, top_db=100)
    return levels[:, :200].T


def published_by_numpy(wave: NDArray[np.float32], bands: int) -> NDArray[np.float64]:
    """The same from the definitions alone."""
    n = 4 * (bands - 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n)
    padded = np.concatenate([np.zeros(n // 2), wave.astype(np.float64), np.zeros(n // 2)])
    rows = []
    for frame in range(len(wave) // 240 + 1):
        power = np.abs(np.fft.rfft(padded[240 * frame : 240 * frame + n] * window)) ** 2
        rows.append([power[0], *(power[1::2] + power[2::2]) / 2])
    levels = 10 * np.log10(np.maximum(rows, 1e-10))
    return np.maximum(levels, levels.max() - 100)[:200]


@pytest.mark.parametrize("config", [PUBLISHED, PUBLISHED_SMALL])
def test_the_published_spectrogram(config: AudioConfig, device: torch.device) -> None:
    rng = np.random.default_rng(5)
    loudness = np.array([[0.02], [1.0]])
    waves = (rng.standard_normal((2, 48000)) * loudness).astype(np.float32)
    # A second of digital silence lies at the limit, 100 dB below this clip's own loudest.
    waves[1, :24000] = 0
    made = Spectrogram(config).to(device)(torch.from_numpy(waves).to(device)).cpu().numpy()
    assert made.shape == (2, 1, 200, config.bands)
    for n in range(2):
        expected = published(waves[n], config.bands)
        np.testing.assert_allclose(
            published_by_numpy(waves[n], config.bands), expected, rtol=0, atol=1e-6
        )
        np.testing.assert_allclose(made[n, 0], expected, rtol=0, atol=1e-4)
    held = made[1, 0] == made[1, 0].min()
    assert held.mean() > 0.4
    assert made[1, 0].min() > -80


@pytest.mark.parametrize("config", [PUBLISHED, PUBLISHED_SMALL])
def test_the_published_spectrogram_of_tones(config: AudioConfig) -> None:
    """Bins beside a tone lie many decibels below it, and are right all the same."""
    t = np.arange(48000) / 24000
    tones = [np.sin(2 * np.pi * 440 * t), 0.3 * np.sin(2 * np.pi * (200 * t + 2000 * t * t))]
    waves = np.stack(tones).astype(np.float32)
    made = Spectrogram(config)(torch.from_numpy(waves)).numpy()
    for n in range(2):
        np.testing.assert_allclose(made[n, 0], published(waves[n], config.bands), rtol=0, atol=1e-4)


def test_the_limit_is_by_all_frames_of_the_clip_before_the_cut() -> None:
    wave = np.zeros((1, 48000), np.float32)
    wave[0, 24000] = 1e-4
    wave[0, -1] = 1.0  # loudest in the frame that is cut off
    made = Spectrogram(PUBLISHED_SMALL)(torch.from_numpy(wave))[0, 0].numpy()
    np.testing.assert_allclose(made, published(wave[0], 129), atol=1e-4)


def test_padding_and_limit_with_clips_of_several_lengths() -> None:
    """Each clip is padded at its own end, and held by its own loudest."""
    config = replace(SMALL, padding="zeros", precision="float64", top_db=30.0)
    seconds = [0.4, 0.5, 0.7]
    wave = sound(3, 2800, seed=8)
    spectrogram = Spectrogram(config)
    made = spectrogram(wave, torch.tensor(seconds, dtype=torch.float64))
    # As on an accelerator, where clips of all lengths go through at once.
    at_once = spectrogram._clips(wave, np.array([1600, 2000, 2800]))
    torch.testing.assert_close(at_once, made[:, 0], rtol=0, atol=1e-5)
    for n, duration in enumerate(seconds):
        own = wave[n : n + 1, : round(duration * 4000)]
        alone = replace(config, duration=duration, stretch=(duration, duration), hop=config.hop)
        frames = len(own[0]) // config.hop_samples + 1
        exact = replace(alone, duration=frames * config.hop)
        filled = torch.cat([own, torch.zeros(1, 4000)], 1)
        levels = Spectrogram(exact)(filled)[0, 0].double().numpy()
        # Frames that look past the clip's end see zeros either way; none lies beyond its own.
        levels = np.maximum(levels[:frames], levels[:frames].max() - 30)
        at = np.arange(config.frames) * duration / config.duration
        expected = [np.interp(at, np.arange(frames), levels[:, k]) for k in range(config.bands)]
        np.testing.assert_allclose(made[n, 0].numpy(), np.stack(expected, 1), atol=1e-4)


def test_padding_with_zeros_needs_no_length() -> None:
    short = AudioConfig(duration=0.02, hop=0.02, stretch=(0.02, 0.02), n_fft=1024, bands=257)
    with pytest.raises(ValueError, match="too short"):
        Spectrogram(short)(torch.zeros(1, 480))
    made = Spectrogram(replace(short, padding="zeros"))(torch.zeros(1, 480))
    assert torch.equal(made, torch.full((1, 1, 1, 257), -100.0))


def librosa_mel(wave: NDArray[np.float32], config: AudioConfig) -> NDArray[np.float64]:
    """Log mel levels ``(frames, bands)`` of a clip, cut to the fixed number."""
    import librosa

    power = librosa.feature.melspectrogram(
        y=wave.astype(np.float64),
        sr=config.rate,
        n_fft=config.n_fft,
        win_length=config.window,
        hop_length=config.hop_samples,
        n_mels=config.bands,
        pad_mode={"zeros": "constant", "reflect": "reflect"}[config.padding],
    )
    levels: NDArray[np.float64] = librosa.power_to_db(power, ref=1.0, top_db=config.top_db)
    return levels.T[: config.frames]


@pytest.mark.parametrize(
    "config",
    [MEL, replace(MEL, padding="reflect"), SMALL_MEL, replace(MEL, bands=64, top_db=40.0)],
    ids=["full", "reflect", "small", "limited"],
)
def test_mel_equals_librosa(config: AudioConfig, device: torch.device) -> None:
    rng = np.random.default_rng(6)
    samples = round(config.duration * config.rate)
    waves = rng.standard_normal((2, samples)).astype(np.float32) * np.float32([[1.0], [0.02]])
    waves[1, : samples // 2] = 0
    made = Spectrogram(config).to(device)(torch.from_numpy(waves).to(device)).cpu().numpy()
    assert made.shape == (2, 1, config.frames, config.bands)
    for n in range(2):
        expected = librosa_mel(waves[n], config)
        np.testing.assert_allclose(made[n, 0], expected, rtol=0, atol=1e-4)


def test_mel_of_tones_in_double_precision() -> None:
    """Bands far from a tone lie many decibels below it."""
    t = np.arange(25600) / 16000
    wave = np.sin(2 * np.pi * (300 * t + 1500 * t * t)).astype(np.float32)
    config = replace(MEL, precision="float64")
    made = Spectrogram(config)(torch.from_numpy(wave)[None])[0, 0].numpy()
    expected = librosa_mel(wave, config)
    assert np.ptp(expected) > 60
    np.testing.assert_allclose(made, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("rate", "bands", "n_fft"), [(16000, 80, 400), (4000, 12, 130)])
def test_mel_filters_are_librosas(rate: int, bands: int, n_fft: int) -> None:
    import librosa

    expected = librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=bands, dtype=np.float64)
    np.testing.assert_allclose(mel_filters(rate, bands, n_fft).numpy().T, expected, atol=1e-12)


def test_mel_is_stretched_as_other_spectrograms_are() -> None:
    config = replace(SMALL_MEL, stretch=(0.35, 0.7))
    wave = sound(1, 2800)
    made = Spectrogram(config)(wave, torch.tensor([0.7], dtype=torch.float64))[0, 0].numpy()
    longer = replace(config, duration=0.7, stretch=(0.7, 0.7))
    levels = Spectrogram(longer)(wave)[0, 0].numpy()
    at = np.arange(50) * 0.7 / 0.5
    expected = np.stack([np.interp(at, np.arange(70), levels[:, k]) for k in range(12)], 1)
    np.testing.assert_allclose(made, expected, atol=1e-4)


def test_mel_bands_must_have_a_bin_each() -> None:
    found = set()
    for bands in range(60, 200, 4):
        heard = bool((mel_filters(16000, bands, 400) > 0).any(0).all())
        assert heard == (not list(replace(MEL, bands=bands).faults()))
        found.add(heard)
    assert found == {True, False}
    with pytest.raises(ValueError, match="some of 160 mel bands lie between the bins of n_fft=400"):
        Spectrogram(replace(MEL, bands=160))
