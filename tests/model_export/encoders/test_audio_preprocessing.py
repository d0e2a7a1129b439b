"""From the file to the embedding: how the service hears sound, beside laion_clap and transformers.

docs/encoders.md says how near they are; these tests hold it to that. Weights are random, the architecture is
the real one.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import av
import librosa
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

from model_export.encoders.audio_encoder import AudioChoice, load_audio_encoder
from model_export.encoders.encoder_modules import LaionAudioTower
from model_export.encoders.encoder_types import AudioEncoder
from model_export.encoders.tokenizer_file import stand_in_tokenizer
from model_export.export.quiet_libraries import quiet
from service.arrays import Array
from service.bundle.manifest import Padding
from service.decode import decode_clip
from service.encode.clip_features import audio_windows
from service.encode.features import pool
from service.media import DecodeLimits, DecodeSpec
from tests.model_export.encoders.original_laion import audio_embedding, padded
from tests.model_export.encoders.small_encoders import N_ROWS, shallow_clap
from tests.service.decode.clips import write_sound

Case = tuple[float, str, int]

RATE_HZ, WINDOW = 48_000, 480_000
CASES: list[Case] = list(product([0.5, 3, 4, 6, 9, 10], ["mono", "stereo", "5.1"], [44_100, 48_000]))
QUICK: list[Case] = [(0.5, "5.1", 48_000), (4, "mono", 44_100), (6, "stereo", 44_100)]
# Cosine to laion_clap with FFmpeg's own mix to mono, and with short sound repeated to the end of the window.
BEFORE = {
    0.5: {"mono": 1.000, "stereo": 0.995, "5.1": 0.929},
    3: {"mono": 0.993, "stereo": 0.983, "5.1": 0.892},
    4: {"mono": 0.963, "stereo": 0.942, "5.1": 0.816},
    6: {"mono": 0.709, "stereo": 0.660, "5.1": 0.483},
    9: {"mono": 0.993, "stereo": 0.981, "5.1": 0.887},
    10: {"mono": 1.000, "stereo": 0.994, "5.1": 0.924},
}
SHARED = Path(__file__).parents[4] / "shared" / "media" / "clips"
EXAMPLES = Path(__file__).parents[3] / "examples"
REAL = [EXAMPLES / "heart-with-a-chime.mp4", SHARED / "mdn_frog.webm", SHARED / "androidx_opus-5.1.mka"]


def sound(n_channels: int, seconds: float, rate_hz: int) -> NDArray[np.float64]:
    """Tones that fade and start again, and noise to 14 kHz, in part the same in every channel; peak 0.9."""
    draw = np.random.default_rng(1)
    n_samples = round(seconds * rate_hz)
    time_s = np.arange(n_samples) / rate_hz
    chord = sum(np.sin(2 * np.pi * hz * time_s) for hz in (220, 660, 1_760, 3_300))
    shared = chord * np.exp(-2 * (time_s % 1.3))
    channels = []
    for number in range(n_channels):
        spectrum = np.fft.rfft(draw.normal(size=n_samples))
        spectrum[np.fft.rfftfreq(n_samples, 1 / rate_hz) > 14_000] = 0
        own = np.sin(2 * np.pi * (300 + 170 * number) * time_s) + 0.5 * np.fft.irfft(spectrum, n_samples)
        channels.append(shared + own)
    samples = np.array(channels)
    scaled: NDArray[np.float64] = 0.9 * samples / np.abs(samples).max()
    return scaled


def write(folder: Path, case: Case, name: str = "s.wav", codec: str = "pcm_s16le") -> Path:
    """A file of a length, a layout and a rate."""
    seconds, layout, rate_hz = case
    samples = sound(av.AudioLayout(layout).nb_channels, seconds, rate_hz)
    return write_sound(folder / name, samples, codec, layout=layout, rate_hz=rate_hz)


def ours(path: Path) -> Array:
    """The waveform that the service has of a file."""
    waveform = decode_clip(path, DecodeSpec(1, 32, RATE_HZ, 600.0), DecodeLimits()).waveform
    assert waveform is not None
    return waveform


def theirs(path: Path) -> Array:
    """What librosa, with which laion_clap reads files, makes of it; without the sample that is too many.

    librosa rounds a product of floats up: 5 s of 44.1 kHz become 240 001 samples. What LAION trained on was
    resampled by FFmpeg, which gives 240 000, and so is what the service hears.
    """
    with quiet():
        waveform, _ = librosa.load(path, sr=RATE_HZ)
        stored, rate_hz = librosa.load(path, sr=None)
    return waveform[: -(-len(stored) * RATE_HZ // int(rate_hz))]


def decoded(path: Path) -> Array:
    """The same for what librosa can't open: decoded whole, then librosa's mean and librosa's resampling."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray() for frame in frames], axis=1)
    if samples.dtype.kind == "i":
        samples = (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    with quiet():
        resampled = librosa.resample(
            librosa.to_mono(samples), orig_sr=frames[0].sample_rate, target_sr=RATE_HZ
        )
    return resampled[: -(-samples.shape[1] * RATE_HZ // frames[0].sample_rate)]


def through_flac(path: Path) -> Path:
    """What LAION made of its files before it trained: `ffmpeg -ar 48000 -ac 1` to FLAC, 16 bits."""
    resampler = av.AudioResampler("s16", "mono", RATE_HZ)
    out = path.with_suffix(".flac")
    with av.open(str(path)) as source, av.open(str(out), "w") as container:
        stream: Any = container.add_stream("flac", rate=RATE_HZ, layout="mono")
        stream.format = "s16"
        for frame in (*source.decode(audio=0), None):
            for mixed in resampler.resample(frame):
                container.mux(stream.encode(mixed))
        container.mux(stream.encode(None))
    return out


def formerly(path: Path) -> Array:
    """What the service heard before: FFmpeg's own mix to mono, cut off at full scale."""
    resampler = av.AudioResampler("flt", "mono", RATE_HZ)
    with av.open(str(path)) as container:
        frames = [mixed for frame in container.decode(audio=0) for mixed in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames]).clip(-1, 1)


def windows(waveform: Array, padding: Padding = "repeat_whole") -> Array:
    """As a bundle of CLAP has them."""
    return np.stack(audio_windows(waveform, window=WINDOW, hop=WINDOW, padding=padding))


@torch.no_grad()
def encode(module: torch.nn.Module, waveforms: Array) -> Array:
    """One embedding, as the service makes it of a clip's windows."""
    return pool(module(torch.from_numpy(waveforms)).numpy())


def laion(waveform: Array) -> Array:
    """laion_clap's embedding, by its own code, of a waveform as librosa gives it."""
    network, facts = shallow_clap()
    return audio_embedding(network, [waveform], facts)[0].numpy()


def tower() -> LaionAudioTower:
    """What the export makes of the same network."""
    return LaionAudioTower(shallow_clap()[0])


def noise_db(found: Array, expected: Array) -> float:
    """How far the difference is below the sound; both filters have an onset, which is left out."""
    inner = slice(1_000, len(expected) - 1_000)
    noise = np.mean((found[inner] - expected[inner]) ** 2) / np.mean(expected[inner] ** 2)
    return float(10 * np.log10(noise + 1e-30))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_windows_are_laions(case: Case, tmp_path: Path) -> None:
    """The same mean of the channels, the same number of repeats, the same silence after them."""
    path = write(tmp_path, case)
    found, expected = ours(path), theirs(path)
    assert len(found) == len(expected) == round(case[0] * RATE_HZ)
    assert noise_db(found, expected) < (-90 if case[2] == RATE_HZ else -60)
    filled, (window,) = padded(expected), windows(found)
    n_heard = WINDOW // len(found) * len(found)
    assert noise_db(window[:n_heard], filled[:n_heard]) < -40  # onsets included
    assert not window[n_heard:].any()
    assert not filled[n_heard:].any()


@pytest.mark.parametrize(
    "case", [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES], ids=str
)
def test_embeddings_are_laions(case: Case, tmp_path: Path) -> None:
    """From the file to the embedding."""
    path = write(tmp_path, case)
    assert encode(tower(), windows(ours(path))) @ laion(theirs(path)) > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("case", [case for case in CASES if case[2] == 44_100], ids=str)
def test_embeddings_were_others_before(case: Case, tmp_path: Path) -> None:
    """The figures of docs/encoders.md."""
    path = write(tmp_path, case)
    found = encode(tower(), windows(formerly(path), "repeat"))
    assert found @ laion(theirs(path)) == pytest.approx(BEFORE[case[0]][case[1]], abs=0.002)


@pytest.mark.parametrize(
    ("name", "codec", "layout", "rate_hz"),
    [
        ("s.flac", "flac", "stereo", 44_100),
        ("s.mp3", "libmp3lame", "stereo", 44_100),
        ("s.ogg", "libopus", "stereo", 48_000),
        pytest.param("s.m4a", "alac", "5.1", 44_100, marks=pytest.mark.slow),
        pytest.param("s.m4a", "aac", "stereo", 44_100, marks=pytest.mark.slow),
        pytest.param("s.m4a", "aac", "5.1", 48_000, marks=pytest.mark.slow),
        pytest.param("s.mka", "ac3", "5.1", 48_000, marks=pytest.mark.slow),
    ],
)
def test_embeddings_of_other_codecs(name: str, codec: str, layout: str, rate_hz: int, tmp_path: Path) -> None:
    """Decoded by each side: lossless, lossy, planar, with the delay and the padding that codecs add."""
    path = write(tmp_path, (6, layout, rate_hz), name, codec)
    expected = theirs(path) if name.endswith(("flac", "mp3", "ogg")) else decoded(path)
    found = ours(path)
    assert len(found) == len(expected)
    assert encode(tower(), windows(found)) @ laion(expected) > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "rate_hz", "trained", "read"),
    [
        ("stereo", 8_000, 1.0, 0.962),
        ("stereo", 16_000, 1.0, 0.985),
        ("stereo", 22_050, 1.0, 0.990),
        ("stereo", 24_000, 1.0, 0.991),
        ("stereo", 44_100, 1.0, 1.0),
        ("5.1", 44_100, 0.990, 1.0),
    ],
)
def test_where_laions_training_and_its_package_differ(
    layout: str, rate_hz: int, trained: float, read: float, tmp_path: Path
) -> None:
    """We resample as FFmpeg did for the training, low rates too, and mix 5.1 as the package does."""
    path = write(tmp_path, (10, layout, rate_hz))
    found = encode(tower(), windows(ours(path)))
    assert found @ laion(theirs(through_flac(path))) == pytest.approx(trained, abs=0.002)
    assert found @ laion(theirs(path)) == pytest.approx(read, abs=0.002)


def test_where_librosa_counts_a_sample_too_many(tmp_path: Path) -> None:
    """Sound that fits a whole number of times fits once less then. Not so in what LAION trained on."""
    path = write(tmp_path, (0.5, "mono", 44_100))
    with quiet():
        longer, _ = librosa.load(path, sr=RATE_HZ)
    assert (len(longer), len(ours(path)), len(theirs(through_flac(path)))) == (24_001, 24_000, 24_000)
    assert np.count_nonzero(padded(longer)) < 19.1 * 24_000
    assert np.count_nonzero(windows(ours(path))) > 19.9 * 24_000


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.name)
def test_windows_of_real_clips(path: Path) -> None:
    """The same law on sound in files that were not made here."""
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    found, expected = ours(path), decoded(path)
    assert len(found) == len(expected)
    assert noise_db(windows(found)[0], padded(expected[:WINDOW])) < -60


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, AudioEncoder]:
    """A folder with the sound branch of clap-htsat-unfused, its model, and what the export makes of it."""
    folder = tmp_path_factory.mktemp("clap")
    text = {"vocab_size": N_ROWS, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 80}
    torch.manual_seed(0)
    model: Any = ClapModel(ClapConfig(text_config=text))
    model.eval()
    norm = model.audio_model.audio_encoder.batch_norm
    torch.nn.init.uniform_(norm.running_mean, -40, -10)
    torch.nn.init.uniform_(norm.running_var, 50, 150)
    model.save_pretrained(folder)
    settings: dict[str, Any] = {"feature_size": 64, "sampling_rate": RATE_HZ, "hop_length": 480}
    settings |= {"max_length_s": 10, "fft_window_size": 1024, "frequency_min": 50, "frequency_max": 14_000}
    settings |= {"truncation": "rand_trunc", "padding": "repeatpad"}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    stand_in_tokenizer(N_ROWS).save(str(folder / "tokenizer.json"))
    return folder, model, load_audio_encoder(AudioChoice(checkpoint=folder))


@pytest.mark.slow
@pytest.mark.parametrize("case", [*QUICK, (10, "5.1", 44_100)], ids=str)
@torch.no_grad()
def test_embeddings_are_transformers(
    case: Case, checkpoint: tuple[Path, Any, AudioEncoder], tmp_path: Path
) -> None:
    """ClapFeatureExtractor on the waveform that librosa reads, and ClapModel."""
    folder, model, encoder = checkpoint
    path = write(tmp_path, case)
    reader = ClapFeatureExtractor.from_pretrained(folder)
    read = reader(theirs(path), sampling_rate=RATE_HZ, return_tensors="pt")
    (expected,) = torch.nn.functional.normalize(model.get_audio_features(**read).pooler_output)
    assert encode(encoder.module, windows(ours(path), encoder.padding)) @ expected.numpy() > 0.9999
