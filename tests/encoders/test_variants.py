"""Sizes of the papers by their numbers of parameters, and errors about variants and sizes."""

import numpy as np
import pytest

import mmkeras as mk
from mmkeras import encoders
from mmkeras.encoders import image_inception, image_resnet, image_vit
from tests.core.errors import says
from tests.encoders.inputs import SPECS

PICTURE = mk.Image(size=224)


def sizes(model, skip="positions"):
    """Number of weights, but for what mmkeras adds to the paper's."""
    return sum(int(np.prod(v.shape)) for v in model.weights if skip not in v.path)


@pytest.mark.parametrize(("variant", "count"), [("18", 11_176_512), ("50", 23_508_032)])
def test_resnet_has_the_weights_of_the_paper(variant, count):
    """Those of the public ImageNet models without their classifier."""
    model = image_resnet("x", PICTURE, variant=variant)
    assert sizes(model) == count
    assert model.output["tokens"].shape == (None, 49, 512 if variant == "18" else 2048)


def test_resnet_takes_the_stride_in_the_3x3():
    model = image_resnet("x", PICTURE, variant="50", depths=(1, 1, 1, 1))
    strides = {s: model.get_layer(f"x_stage1_block0_{s}_conv").strides[0] for s in ("a", "b", "c")}
    assert strides == {"a": 1, "b": 2, "c": 1}
    assert model.get_layer("x_stage0_block0_b_conv").strides == (1, 1)


def test_inception_blocks_have_the_weights_of_the_papers_table():
    """Table 1 of the paper counts each block's in units of 1024, without norms.

    Its counts of three blocks (4c, 5a, 5b) are up to 7.5 % off its own channels.
    """
    model = image_inception("x", PICTURE, variant="googlenet")
    assert model.output["tokens"].shape == (None, 49, 1024)
    table = (159, 380, 364, 437, 463, 580, 840, 1072, 1388)
    blocks = [(0, 0), (0, 1), *((1, i) for i in range(5)), (2, 0), (2, 1)]
    for (stage, block), thousands in zip(blocks, table, strict=True):
        prefix = f"x_stage{stage}_block{block}_"
        count = sum(
            int(np.prod(v.shape))
            for v in model.weights
            if v.path.startswith(prefix) and v.path.endswith("kernel")
        )
        assert count / 1024 == pytest.approx(thousands, rel=0.08), (stage, block)


def test_vit_has_the_weights_of_the_papers():
    """Ti/16: 5,524,416 with class token, its position, and the biases of the keys."""
    model = image_vit("x", PICTURE, variant="Ti/16")
    assert model.count_params() == 5_524_416 - 2 * 192 - 12 * 192
    assert model.output["tokens"].shape == (None, 196, 192)


def test_bert_has_the_weights_of_the_paper():
    """The tiny one: 4,369,408 without its pooler, with the biases of the keys."""
    vocabulary = ("[PAD]", "[UNK]", "[SEP]", *(str(i) for i in range(30_519)))
    spec = mk.Text(length=512, vocabulary=vocabulary, segments=2)
    model = encoders.text_transformer("x", spec, variant="bert_tiny", normalize_first=False)
    assert model.count_params() == 4_369_408 - 2 * 128


def test_every_variant_is_listed_with_the_same_sizes():
    for module in (
        encoders.image_resnet,
        encoders.image_inception,
        encoders.image_vit,
        encoders.text_bow,
        encoders.text_char_cnn,
        encoders.text_transformer,
        encoders.audio_crnn,
        encoders.audio_wave_cnn,
        encoders.audio_speech_transformer,
    ):
        variants = module.__globals__["VARIANTS"]
        assert next(iter(variants)) == "small" and len(variants) > 1
        assert len({tuple(sorted(sizes)) for sizes in variants.values()}) == 1


def test_unknown_variants_and_sizes_are_refused():
    with says(ValueError, "Unknown variant 'smal'", "101, 152, 18", "Did you mean 'small'?"):
        encoders.get({"name": "resnet", "variant": "smal"}, "x", SPECS["image"])
    with says(ValueError, "no argument 'filter'", "Did you mean 'filters'?"):
        encoders.get({"name": "resnet", "filter": (8,)}, "x", SPECS["image"])


def test_a_picture_smaller_than_the_stride_is_refused():
    for name, variant, least in (("resnet", "18", 32), ("inception", "googlenet", 32)):
        with says(ValueError, "(31, 64) is too small", "'x'", f"at least {least}", "'small'"):
            encoders.get({"name": name, "variant": variant}, "x", mk.Image(size=(31, 64)))
