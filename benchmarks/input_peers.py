"""Peers of the benchmark `input`: torch loaders, plain tf.data, librosa, HF tokenizers, limits."""

import csv
import io
import json
import multiprocessing
import re
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import need, steady, timed
from benchmarks.input_data import LENGTH, SOUND_HZ, SOUND_SECONDS, read_lines, read_sounds

SIDE, SCALE, RATIO = 224, (0.3, 1.0), (3 / 4, 4 / 3)
MEAN, DEVIATION = (0.481, 0.458, 0.408), (0.269, 0.261, 0.276)


def rows(folder: str) -> list[tuple[str, str]]:
    """Returns (path, caption) of the pairs."""
    with (Path(folder) / "pairs.csv").open(newline="", encoding="utf-8") as file:
        return [(f"{folder}/{r['picture']}", r["caption"]) for r in csv.DictReader(file)]


def crop(height: int, width: int) -> tuple[int, int, int, int]:
    """Returns top, left, height, width: drawn as torchvision's RandomResizedCrop does."""
    for _ in range(10):
        area = height * width * np.random.uniform(*SCALE)
        aspect = np.exp(np.random.uniform(*np.log(RATIO)))
        h, w = round((area / aspect) ** 0.5), round((area * aspect) ** 0.5)
        if 0 < h <= height and 0 < w <= width:
            top = np.random.randint(0, height - h + 1)
            return top, np.random.randint(0, width - w + 1), h, w
    return 0, 0, height, width


def word_piece(folder: str) -> Any:
    """Returns HF's tokenizer over the same vocabulary, padding and cutting to LENGTH."""
    hf = need("tokenizers")
    vocabulary = {word: i for i, word in enumerate(read_lines(folder, "vocabulary.txt"))}
    model = hf.models.WordPiece(vocabulary, unk_token="[UNK]")  # noqa: S106
    tokenizer = hf.Tokenizer(model)
    tokenizer.normalizer = hf.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = hf.pre_tokenizers.BertPreTokenizer()
    tokenizer.enable_padding(length=LENGTH)
    tokenizer.enable_truncation(LENGTH)
    return tokenizer


class BytePairs:
    """Byte-pair encoding in Python with a cache of words, as CLIP's reference tokenizer works."""

    def __init__(self, lines: list[str], merges: int = 3000) -> None:
        """Learns the merges (by HF, for speed)."""
        hf = need("tokenizers")
        learnt = hf.Tokenizer(hf.models.BPE())
        learnt.pre_tokenizer = hf.pre_tokenizers.Whitespace()
        trainer = hf.trainers.BpeTrainer(vocab_size=merges, show_progress=False)
        learnt.train_from_iterator([line.lower() for line in lines], trainer)
        self.ids = learnt.get_vocab()
        pairs = json.loads(learnt.to_str())["model"]["merges"]
        self.ranks = {tuple(pair): rank for rank, pair in enumerate(pairs)}
        self.words = re.compile(r"[^\W\d_]+|\d|[^\s\w]+")
        self.cache: dict[str, list[str]] = {}

    def split(self, word: str) -> list[str]:
        """Merges the pair of the lowest rank until none is left."""
        if word in self.cache:
            return self.cache[word]
        parts = list(word)
        while len(parts) > 1:
            pairs = [self.ranks.get(pair, 1 << 30) for pair in zip(parts, parts[1:], strict=False)]
            best = min(pairs)
            if best == 1 << 30:
                break
            at = pairs.index(best)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        self.cache[word] = parts
        return parts

    def __call__(self, text: str) -> list[int]:
        """Returns LENGTH ids."""
        found = self.words.findall(" ".join(text.lower().split()))
        ids = [self.ids.get(part, 0) for word in found for part in self.split(word)][:LENGTH]
        return ids + [0] * (LENGTH - len(ids))


def _loader(dataset: Any, batch: int, collate: Any = None) -> Callable[[], float]:
    torch = need("torch")
    torch.set_num_threads(1)
    loader = torch.utils.data.DataLoader(
        dataset,
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=2,
        persistent_workers=True,
        collate_fn=collate,
    )
    return _epoch(loader, len(loader))


def _epoch(batches: Any, steps: int) -> Callable[[], float]:
    def work() -> float:
        return steady(batches, steps, lambda batch: len(batch[0]))

    work()
    return work


class Usual:
    """A row: PIL, bicubic resize, float, normalised; caption by Python byte pairs."""

    def __init__(self, folder: str) -> None:
        """Reads the manifest."""
        self.rows = rows(folder)
        self.encode = BytePairs([caption for _, caption in self.rows])

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Any, Any]:
        """Returns a row."""
        import torch
        from PIL import Image as Pillow

        path, caption = self.rows[number]
        photo = Pillow.open(path).convert("RGB")
        top, left, h, w = crop(photo.height, photo.width)
        photo = photo.crop((left, top, left + w, top + h))
        photo = np.asarray(photo.resize((SIDE, SIDE), Pillow.Resampling.BICUBIC))
        pixels = torch.from_numpy(photo.copy()).permute(2, 0, 1).contiguous().float().div(255)
        pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[
            :, None, None
        ]
        return pixels, torch.tensor(self.encode(caption))


def usual_loader(folder: str, batch: int = 64) -> Callable[[], float]:
    """P1 (i): the DataLoader that most training scripts have, two workers."""
    need("torch")
    return _loader(Usual(folder), batch)


class Best:
    """A row: libjpeg-turbo, uint8 antialiased resize; captions are encoded by the batch."""

    def __init__(self, folder: str) -> None:
        """Reads the manifest."""
        self.rows, self.tokenizer = rows(folder), word_piece(folder)

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def __getitem__(self, number: int) -> tuple[Any, str]:
        """Returns a row."""
        import simplejpeg
        import torch

        path, caption = self.rows[number]
        pixels = simplejpeg.decode_jpeg(Path(path).read_bytes())
        top, left, h, w = crop(*pixels.shape[:2])
        cut = torch.from_numpy(pixels[top : top + h, left : left + w]).permute(2, 0, 1)[None]
        small = torch.nn.functional.interpolate(cut, (SIDE, SIDE), mode="bilinear", antialias=True)
        return small[0], caption

    def collate(self, batch: list) -> tuple[Any, Any]:
        """Stacks the pictures and encodes the captions."""
        import torch

        encoded = self.tokenizer.encode_batch_fast([caption for _, caption in batch])
        ids = torch.tensor([one.ids for one in encoded], dtype=torch.int32)
        return torch.stack([pixels for pixels, _ in batch]), ids


def best_loader(folder: str, batch: int = 64) -> Callable[[], float]:
    """P1 (ii): the fastest DataLoader we know how to write, two workers."""
    for module in ("torch", "simplejpeg"):
        need(module)
    dataset = Best(folder)
    return _loader(dataset, batch, dataset.collate)


def plain_tf(folder: str, batch: int = 64) -> Callable[[], float]:
    """P1 (iii): tf.data as tutorials write it, one row at a time, antialiased resize."""
    import tensorflow as tf
    import tensorflow_text

    paths, texts = zip(*rows(folder), strict=True)
    tokenizer = tensorflow_text.FastBertTokenizer(
        read_lines(folder, "vocabulary.txt"), lower_case_nfd_strip_accents=True
    )

    def load(path: Any, text: Any) -> tuple[Any, Any]:
        item = tf.io.read_file(path)
        pixels = tf.io.decode_jpeg(item, 3, dct_method="INTEGER_ACCURATE")
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(pixels),
            tf.zeros((1, 0, 4)),
            area_range=SCALE,
            aspect_ratio_range=RATIO,
            use_image_if_no_bounding_boxes=True,
        )
        pixels = tf.image.resize(tf.slice(pixels, begin, size), (SIDE, SIDE), antialias=True)
        pixels = tf.ensure_shape(tf.cast(tf.round(pixels), tf.uint8), (SIDE, SIDE, 3))
        ids = tokenizer.tokenize(text[None])[0][:LENGTH]
        return pixels, tf.pad(ids, [[0, LENGTH - tf.shape(ids)[0]]])

    dataset = (
        tf.data.Dataset.from_tensor_slices((list(paths), list(texts)))
        .shuffle(2000)
        .map(load, num_parallel_calls=tf.data.AUTOTUNE)
        .batch(batch, drop_remainder=True)
        .prefetch(tf.data.AUTOTUNE)
    )
    return _epoch(dataset, len(paths) // batch)


def _decode_all(paths: list[str]) -> int:
    import simplejpeg

    for path in paths:
        simplejpeg.decode_jpeg(Path(path).read_bytes())
    return len(paths)


def jpeg_limit(folder: str) -> Callable[[], float]:
    """P1: libjpeg-turbo decoding whole pictures in two processes, and nothing else."""
    need("simplejpeg")
    paths = [path for path, _ in rows(folder)]
    pool = multiprocessing.Pool(2)
    parts = [paths[start : start + 20] for start in range(0, len(paths), 20)]

    def once() -> int:
        return sum(pool.imap_unordered(_decode_all, parts))

    once()
    return lambda: timed(once)


def mel_matrix(bins: int = 129, bands: int = 40, low: float = 20.0) -> np.ndarray:
    """Returns (bins, bands): triangles on the mel scale 1127 ln(1 + f / 700)."""
    mel = 1127.0 * np.log1p(np.linspace(0, SOUND_HZ / 2, bins) / 700.0)[:, None]
    edges = np.linspace(1127.0 * np.log1p(low / 700.0), mel[-1, 0], bands + 2)
    below, centre, above = edges[:-2], edges[1:-1], edges[2:]
    rise, fall = (mel - below) / (centre - below), (above - mel) / (above - centre)
    matrix = np.maximum(0.0, np.minimum(rise, fall))
    matrix[0] = 0.0
    return matrix.astype("float32")


def samples(item: bytes) -> np.ndarray:
    """Returns the samples of a WAV by soundfile, as librosa.load reads them."""
    return need("soundfile").read(io.BytesIO(item), dtype="float32")[0]


def samples_by_hand(item: bytes) -> np.ndarray:
    """Returns the samples of a WAV by the standard library and NumPy."""
    with wave.open(io.BytesIO(item)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype("float32") / 32768


def librosa_features(
    folder: str, own_matrix: bool = False, save: str | None = None
) -> Callable[[], float]:
    """P2: librosa clip by clip, standardised.

    By `librosa.feature.melspectrogram`, whose triangles are linear in Hz; with `own_matrix` by
    `librosa.stft` and our matrix, made once, which gives our features.
    """
    librosa, matrix = need("librosa"), mel_matrix().T
    held, size = read_sounds(folder), round(SOUND_HZ * SOUND_SECONDS)
    frame = {"n_fft": 256, "hop_length": 80, "win_length": 200, "pad_mode": "reflect"}
    bands = {"n_mels": 40, "fmin": 20.0, "htk": True, "norm": None}

    def one(item: bytes) -> np.ndarray:
        signal = samples(item)[:size]
        padded = np.pad(signal, (0, size - len(signal)))
        if own_matrix:
            power = matrix @ np.abs(librosa.stft(padded, **frame)) ** 2
        else:
            power = librosa.feature.melspectrogram(y=padded, sr=SOUND_HZ, **frame, **bands)
        frames = np.log(np.maximum(power, 1e-6)).T
        real = frames[: -(-len(signal) // 80)]
        out = np.zeros_like(frames)
        out[: len(real)] = (real - real.mean()) / (real.std() + 1e-3)
        return out

    if save:
        np.save(save, np.stack([one(item) for item in held]))

    def once() -> int:
        return len([one(item) for item in held])

    once()
    return lambda: timed(once)


def torch_features(
    folder: str, batch: int = 64, by_hand: bool = False, save: str | None = None
) -> Callable[[], float]:
    """P2: decoding clip by clip, then torch.stft on batches, standardised."""
    torch = need("torch")
    torch.set_num_threads(1)
    read = samples_by_hand if by_hand else samples
    held, size = read_sounds(folder), round(SOUND_HZ * SOUND_SECONDS)
    window, matrix = torch.hann_window(200), torch.from_numpy(mel_matrix())

    def features(items: list[bytes]) -> Any:
        waves, counts = np.zeros((len(items), size), "float32"), []
        for row, item in enumerate(items):
            signal = read(item)[:size]
            waves[row, : len(signal)] = signal
            counts.append(-(-len(signal) // 80))
        spectrum = torch.stft(
            torch.from_numpy(waves), 256, 80, 200, window, pad_mode="reflect", return_complex=True
        )
        power = (spectrum.real**2 + spectrum.imag**2).transpose(1, 2)
        frames = torch.log(torch.clamp(power @ matrix, min=1e-6))
        count = torch.tensor(counts)
        real = (torch.arange(frames.shape[1]) < count[:, None]).float()[..., None]
        number = (count * frames.shape[2])[:, None, None]
        centred = frames - (frames * real).sum((1, 2), keepdim=True) / number
        variance = (centred**2 * real).sum((1, 2), keepdim=True) / number
        return centred / (variance.sqrt() + 1e-3) * real

    parts = [held[start : start + batch] for start in range(0, len(held), batch)]
    if save:
        np.save(save, np.concatenate([features(part).numpy() for part in parts]))

    def once() -> int:
        return sum(len(features(part)) for part in parts)

    once()
    return lambda: timed(once)


def hf_tokenizers(folder: str, batch: int = 4096, save: str | None = None) -> Callable[[], float]:
    """P3: `encode_batch_fast` of HF tokenizers, ids as an array; the rate is in MB/s."""
    tokenizer, lines = word_piece(folder), read_lines(folder)
    parts = [lines[start : start + batch] for start in range(0, len(lines), batch)]

    def encode(part: list[str]) -> np.ndarray:
        return np.array([one.ids for one in tokenizer.encode_batch_fast(part)], "int32")

    if save:
        np.save(save, np.concatenate([encode(part) for part in parts]))
    size = sum(len(line.encode()) for line in lines) / len(lines) / 1e6

    def once() -> int:
        return sum(len(encode(part)) for part in parts)

    return lambda: timed(once) * size
