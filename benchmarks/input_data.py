"""Data of the benchmark `input`: photo-like pictures, captions, sounds and a word-piece vocabulary.

Everything is a function of a seed: pictures of smooth light, texture with the spectrum of natural
images and hard edges (JPEG quality 88, 4:2:0, about 53 KB at 500 x 375); sentences of 10 - 16
words drawn by Zipf's law, with capitals, accents and punctuation; decaying harmonic sounds.
"""

import io
import wave
import zipfile
from pathlib import Path

import numpy as np

SOUND_HZ, SOUND_SECONDS = 8000, 0.97  # 98 frames every 10 ms
LENGTH = 32  # tokens


def texture(rng: np.random.Generator, side: int = 1024) -> np.ndarray:
    """Returns float32 (side, side) of unit variance whose spectrum falls as 1 / f^1.2."""
    spectrum = np.fft.rfft2(rng.normal(size=(side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = 1.0
    field = np.fft.irfft2(spectrum / frequency**1.2, s=(side, side))
    return (field / field.std()).astype("float32")


def picture(rng: np.random.Generator, field: np.ndarray, h: int = 375, w: int = 500) -> np.ndarray:
    """Returns uint8 (h, w, 3): light, texture, and a dozen discs and bars with hard edges."""
    y, x = np.arange(h, dtype="float32")[:, None], np.arange(w, dtype="float32")
    out = np.empty((h, w, 3), "float32")
    for channel in range(3):
        down, across = rng.normal(0, 0.012, 2)
        light = np.cos(down * y + rng.uniform(0, 6)) * np.cos(across * x + rng.uniform(0, 6))
        out[:, :, channel] = 128 + 40 * light
    top, left = rng.integers(0, len(field) - h), rng.integers(0, len(field) - w)
    grain = 28 * field[top : top + h, left : left + w, None]
    out += grain * rng.uniform(0.6, 1.2, 3).astype("float32")
    for number in range(12):
        height, width = rng.integers(10, 150, 2)
        top, left = rng.integers(0, h - 10), rng.integers(0, w - 10)
        part = out[top : top + height, left : left + width]
        rows, columns = np.ogrid[: part.shape[0], : part.shape[1]]
        disc = (rows / height - 0.5) ** 2 + (columns / width - 0.5) ** 2 < 0.25
        inside = disc[..., None] if number % 2 else np.True_
        colour = rng.uniform(0, 128, 3).astype("float32")
        np.copyto(part, 0.5 * part + colour, where=inside)
    return np.clip(out, 0, 255).astype("uint8")


def words(rng: np.random.Generator, count: int = 60_000) -> list[str]:
    """Returns invented words, the most frequent first and, as a rule, the shortest."""
    onsets = "_ b d f g k l m n p r s t v w st tr br ch sh pl".replace("_", "").split(" ")
    made = [a + b + c for a in onsets for b in "aeiou" for c in ("", "n", "r", "s", "t", "l", "ng")]
    parts, pieces = rng.integers(1, 4, count), rng.integers(0, len(made), (count, 3))
    words = ("".join(made[p] for p in row[:n]) for row, n in zip(pieces, parts, strict=True))
    drawn = list(dict.fromkeys(words))
    return sorted(drawn, key=lambda word: len(word) + rng.normal(0, 1.5))


def sentences(rng: np.random.Generator, known: list[str], count: int) -> list[str]:
    """Returns sentences; one in fifty has an accent, one in ten a number."""
    chance = 1.0 / np.arange(1, len(known) + 1)
    ends = np.cumsum(rng.integers(10, 17, count))
    drawn = rng.choice(len(known), ends[-1], p=chance / chance.sum())
    out = []
    for number, part in enumerate(np.split(drawn, ends[:-1])):
        text = " ".join(known[i] for i in part).capitalize() + (", maybe." if number % 3 else ".")
        text = text.replace("a", "\u00e1", 1) if number % 50 == 0 else text
        out.append(f"{text} {number % 97}" if number % 10 == 0 else text)
    return out


def vocabulary(known: list[str], size: int = 30_000) -> list[str]:
    """Returns word pieces: special tokens, characters alone and within words, frequent words."""
    characters = "abcdefghijklmnopqrstuvwxyz0123456789.,"
    inner = [f"##{c}" for c in characters]
    pieces = [f"##{word}" for word in known if len(word) <= 3]
    return list(dict.fromkeys(["[PAD]", "[UNK]", *characters, *inner, *pieces, *known]))[:size]


def sound(rng: np.random.Generator) -> bytes:
    """Returns a mono 16-bit WAV of 0.3 - 1 s: decaying harmonics and some noise."""
    time = np.arange(int(rng.uniform(0.3, 1.0) * SOUND_HZ)) / SOUND_HZ
    pitch, decay = rng.uniform(90, 300), rng.uniform(2, 8)
    tones = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 9))
    signal = tones * np.exp(-decay * time) * 6000 + rng.normal(0, 100, len(time))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SOUND_HZ)
        file.writeframes(np.clip(signal, -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def make(folder: Path, pictures: int, lines: int, sounds: int) -> None:
    """Writes `pairs.csv` with `jpeg/`, `lines.txt`, `vocabulary.txt` and `sounds.zip`, once."""
    done = folder / "done"
    if done.exists():
        return
    from PIL import Image as Pillow

    rng = np.random.default_rng(0)
    (folder / "jpeg").mkdir(parents=True, exist_ok=True)
    field, known = texture(rng), words(rng)
    for number in range(pictures):
        photo = Pillow.fromarray(picture(rng, field))
        photo.save(folder / "jpeg" / f"{number}.jpg", quality=88, subsampling=2)
    text = sentences(rng, known, lines)
    rows = [f'jpeg/{n}.jpg,"{text[n % lines]}"' for n in range(pictures)]
    (folder / "pairs.csv").write_text("\n".join(["picture,caption", *rows]) + "\n", "utf-8")
    (folder / "lines.txt").write_text("\n".join(text) + "\n", "utf-8")
    (folder / "vocabulary.txt").write_text("\n".join(vocabulary(known)) + "\n", "utf-8")
    with zipfile.ZipFile(folder / "sounds.zip", "w") as archive:
        for number in range(sounds):
            archive.writestr(f"{number}.wav", sound(rng))
    done.touch()


def read_lines(folder: str, name: str = "lines.txt") -> list[str]:
    """Returns the lines of a text file."""
    return (Path(folder) / name).read_text("utf-8").splitlines()


def read_sounds(folder: str) -> list[bytes]:
    """Returns the WAV files, in order."""
    with zipfile.ZipFile(Path(folder) / "sounds.zip") as archive:
        return [archive.read(name) for name in archive.namelist()]
