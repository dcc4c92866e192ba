"""One picture in any form gives one answer, at its own size."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision import tv_tensors

from delineate.engine.predictor import displayed, image_files
from delineate.engine.predictors import evaluate, load
from delineate.engine.run import Run
from delineate.engine.semantic_predictor import SemanticPredictor, _decide
from delineate.engine.weights import ModelCard
from delineate.errors import ArgumentError, DataError, RunError, UnknownNameError
from delineate.models.catalogue import create_model
from delineate.postprocess.cleaning import remove_islands
from delineate.postprocess.dense_crf import DenseCRF
from delineate.postprocess.refinement import Refinement
from delineate.postprocess.superpixels import SuperpixelVoting
from delineate.structures.outputs import SemanticOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy

PLAIN = Preprocessing((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


class Brightest(nn.Module):
    """Class k where channel k is the brightest: labels can be told from the pixels."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.num_classes = self.in_channels = channels
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, images: Tensor) -> SemanticOutputs:
        return SemanticOutputs(images * self.gain)


class Neighbourhood(nn.Module):
    """Two 5x5 convolutions: an answer that depends on four pixels in every direction, and on which way is left."""

    def __init__(self) -> None:
        super().__init__()
        self.num_classes, self.in_channels = 3, 3
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 3, 5, padding=2))

    def forward(self, images: Tensor) -> SemanticOutputs:
        return SemanticOutputs(self.layers(images))


def predictor_of(model: nn.Module, preprocessing: Preprocessing = PLAIN, classes: int = 3) -> SemanticPredictor:
    card = ModelCard("test", {}, preprocessing, Taxonomy.numbered(classes))
    return SemanticPredictor(model, card, precision="float32", device="cpu")


@pytest.fixture(scope="module")
def brightest() -> SemanticPredictor:
    return predictor_of(Brightest())


@pytest.fixture
def colours() -> np.ndarray:
    """Noise whose brightest channel leads by far, so that a JPEG's losses do not matter."""
    labels = np.kron(np.random.default_rng(1).integers(0, 3, (4, 6)), np.ones((8, 8), int))
    return np.eye(3)[labels].astype(np.uint8) * 200 + 20


def wanted(pixels: np.ndarray) -> np.ndarray:
    return pixels.argmax(-1).astype(np.uint8)


def test_every_form_of_a_picture_gives_the_same_labels(brightest, colours, tmp_path):
    path = tmp_path / "some.picture.png"
    Image.fromarray(colours).save(path)
    tensor = torch.from_numpy(colours).permute(2, 0, 1)
    forms = {
        "file": path,
        "text": str(path),
        "pillow": Image.fromarray(colours),
        "opened": Image.open(path),
        "array": colours,
        "read-only array": np.asarray(Image.open(path)),
        "reversed twice": np.ascontiguousarray(colours[::-1, ::-1])[::-1, ::-1],
        "tensor": tensor,
        "strided tensor": tensor.contiguous(),
        "tv_tensor": tv_tensors.Image(tensor),
    }
    for form, picture in forms.items():
        found = brightest.predict(picture)
        assert np.array_equal(found.labels, wanted(colours)), form
        assert np.array_equal(found.image, colours), form
        assert found.name == ("some.picture" if form in ("file", "text") else ""), form
    assert brightest.predict(path, name="other").name == "other"


def test_the_score_is_the_probability_of_the_label(brightest, colours):
    found = brightest.predict(colours)
    logits = 4.0 * colours / 255
    probabilities = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert np.allclose(found.scores, probabilities.max(-1), atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "I;16", "1", "LA", "CMYK"])
@pytest.mark.parametrize("opened", [False, True], ids=["file", "pillow"])
def test_pictures_of_every_mode_become_what_the_model_takes(brightest, colours, tmp_path, mode, opened):
    if mode == "I;16":
        picture = Image.fromarray(colours[..., 0].astype(np.uint16) * 257)
    elif mode == "P":
        picture = Image.fromarray(colours).quantize(3)
    else:
        picture = Image.fromarray(colours).convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    picture.save(path)
    found = brightest.predict(picture if opened else path)
    assert found.labels.shape == colours.shape[:2]
    assert found.image.shape == colours.shape
    if mode in ("RGBA", "P"):
        assert np.array_equal(found.labels, wanted(colours))
    if mode == "I;16":
        assert np.array_equal(found.image, np.repeat(colours[..., :1], 3, -1))
    if mode in ("L", "I;16", "1", "LA"):
        assert not found.labels.any()  # grey: every channel is as bright as the first


def test_a_turned_photograph_is_predicted_upright(brightest, colours, tmp_path):
    lying = np.ascontiguousarray(np.rot90(colours))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(lying).save(tmp_path / "a.jpg", quality=95, subsampling=0, exif=exif)
    found = brightest.predict(tmp_path / "a.jpg")
    assert np.array_equal(found.labels, wanted(colours))
    assert found.image.shape == colours.shape
    assert np.array_equal(brightest.predict(Image.open(tmp_path / "a.jpg")).labels, found.labels)


def test_a_model_of_one_channel(tmp_path):
    model = create_model("unet", num_classes=2, in_channels=1, encoder="resnet18", decoder_channels=(8, 4))
    grey = predictor_of(model, Preprocessing.for_channels(1), 2)
    pixels = np.random.default_rng(0).integers(0, 256, (21, 30), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(np.repeat(pixels[..., None], 3, -1)).save(tmp_path / "b.png")
    found = grey.predict(pixels)
    assert found.image.shape == (21, 30, 3)
    for picture in (pixels[..., None], torch.from_numpy(pixels)[None], tmp_path / "a.png", tmp_path / "b.png"):
        assert np.array_equal(grey.predict(picture).labels, found.labels)
        assert np.array_equal(grey.predict(picture).image, found.image)


def test_one_pixel(tiny_predictor):
    found = tiny_predictor.predict(np.full((1, 1, 3), 7, np.uint8))
    assert found.labels.shape == (1, 1)
    assert 1 / 3 <= found.scores[0, 0] <= 1
    tiled = tiny_predictor.predict(np.full((1, 1, 3), 7, np.uint8), tile=32, overlap=8, tta="flip,vflip,scale")
    assert tiled.labels.shape == (1, 1)


def test_a_tile_as_large_as_the_picture_changes_nothing(tiny_predictor):
    pixels = np.random.default_rng(2).integers(0, 256, (41, 57, 3), dtype=np.uint8)
    whole = tiny_predictor.predict(pixels)
    for tile in (57, 500):
        tiled = tiny_predictor.predict(pixels, tile=tile, overlap=8)
        assert np.array_equal(tiled.labels, whole.labels)
        assert np.allclose(tiled.scores, whole.scores, atol=1e-6)


def test_tiles_give_what_the_whole_picture_gives():
    predictor = predictor_of(Neighbourhood())
    pixels = np.random.default_rng(3).integers(0, 256, (150, 170, 3), dtype=np.uint8)
    whole, tiled = predictor.predict(pixels), predictor.predict(pixels, tile=48, overlap=16)
    assert len(whole.pixels()) > 1
    assert np.mean(whole.labels != tiled.labels) < 1e-3
    assert np.allclose(whole.scores, tiled.scores, atol=1e-4)


def test_flipped_views_are_averaged_as_probabilities():
    predictor = predictor_of(Neighbourhood())
    pixels = np.random.default_rng(4).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    one = predictor.logits(images).softmax(1)
    other = predictor.logits(images.flip(-1)).softmax(1).flip(-1)
    mean = ((one + other) / 2)[0]
    found = predictor.predict(pixels, tta="flip")
    assert np.array_equal(found.labels, mean.argmax(0).numpy())
    assert np.allclose(found.scores, mean.max(0).values.numpy(), atol=1e-6)
    turned = predictor.predict(np.ascontiguousarray(pixels[:, ::-1]), tta="flip")
    assert np.array_equal(turned.labels[:, ::-1], found.labels)
    assert not np.allclose(predictor.predict(pixels).scores, found.scores, atol=1e-3)


def test_a_crf_comes_after_the_views_and_sees_the_pixels():
    predictor = predictor_of(Neighbourhood())
    pixels = np.random.default_rng(4).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    crf = DenseCRF(bilateral_sigma_xy=10.0, iterations=2)
    probs = crf(images, predictor.refined(tta="flip").inference()(images))[0]
    found = predictor.predict(pixels, tta="flip", crf="bilateral_sigma_xy=10,iterations=2")
    assert np.array_equal(found.labels, probs.argmax(0).numpy())
    assert np.allclose(found.scores, probs.max(0).values.numpy(), atol=1e-5)
    assert np.array_equal(predictor.predict(pixels, tta="flip", crf=crf).labels, found.labels)
    assert not np.array_equal(predictor.predict(pixels, tta="flip").labels, found.labels)
    one_tile = predictor.predict(pixels, tta="flip", crf=crf, tile=64, overlap=8)
    assert np.array_equal(one_tile.labels, found.labels)


def test_superpixels_come_after_the_crf():
    predictor = predictor_of(Neighbourhood())
    pixels = np.random.default_rng(4).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    crf, voting = DenseCRF(iterations=1), SuperpixelVoting(segments=9)
    probs = voting(images, crf(images, predictor.logits(images)).log())[0]
    found = predictor.predict(pixels, crf="iterations=1", superpixels="slic,segments=9")
    assert np.array_equal(found.labels, probs.argmax(0).numpy())
    assert np.allclose(found.scores, probs.max(0).values.numpy(), atol=1e-5)
    patches = voting.superpixels(pixels)
    assert all(len(np.unique(found.labels[patches == patch])) == 1 for patch in np.unique(patches))


@pytest.mark.parametrize("tile", [None, 16, 64])
def test_islands_and_holes_are_removed_from_the_whole_map(brightest, tile):
    wished = np.zeros((24, 24), np.uint8)
    wished[4:20, 4:20] = 1
    wished[14:18, 14:18] = 0  # a hole of 16 pixels, cut by the borders of tiles
    wished[2, 22] = 2
    pixels = np.eye(3)[wished].astype(np.uint8) * 200 + 20
    found = brightest.predict(pixels, islands=2, holes=16, tile=tile, overlap=4)
    expected = np.zeros((24, 24), np.uint8)
    expected[4:20, 4:20] = 1
    assert np.array_equal(found.labels, expected)
    assert found.labels.dtype == np.uint8
    plain = brightest.predict(pixels, tile=tile, overlap=4)
    assert np.array_equal(plain.labels, wished)
    # the model did not say what these pixels became
    assert np.array_equal(found.scores, np.where(expected == wished, plain.scores, 0))
    assert found.scores.dtype == np.float32
    assert np.array_equal(brightest.predict(pixels, holes=15, tile=tile, overlap=4).labels == 1, wished == 1)


def test_a_refined_predictor_refines_everything_it_predicts(brightest, colours):
    refined = brightest.refined(islands=65, crf=lambda images, logits: logits.softmax(1).flip(1))
    assert brightest.refinement == Refinement()
    found = refined.predict(colours)
    assert np.array_equal(found.labels, remove_islands(2 - wanted(colours), min_area=65))
    assert not np.array_equal(found.labels, 2 - wanted(colours))
    # what is named is replaced, the rest stays
    assert np.array_equal(refined.predict(colours, islands=0).labels, 2 - wanted(colours))
    assert np.array_equal(refined.predict(colours).labels, found.labels)
    assert np.array_equal(brightest.predict(colours).labels, wanted(colours))
    with pytest.raises(TypeError, match="unexpected keyword argument 'island'"):
        brightest.predict(colours, island=3)


def test_each_tile_is_refined_on_its_own():
    predictor, sizes = predictor_of(Neighbourhood()), []

    def watch(images: Tensor, logits: Tensor) -> Tensor:
        sizes.append(tuple(images.shape[-2:]))
        return logits.softmax(1)

    pixels = np.random.default_rng(4).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    found = predictor.predict(pixels, tile=24, overlap=8, crf=watch)
    assert set(sizes) == {(24, 24)}
    plain = predictor.predict(pixels, tile=24, overlap=8)
    assert np.mean(found.labels != plain.labels) < 0.05  # log probabilities blend where logits did


def test_the_same_picture_gives_the_same_bits_and_is_not_changed(tiny_predictor):
    pixels = np.random.default_rng(5).integers(0, 256, (33, 35, 3), dtype=np.uint8)
    before = pixels.copy()
    one, other = tiny_predictor.predict(pixels), tiny_predictor.predict(pixels)
    assert np.array_equal(one.labels, other.labels)
    assert np.array_equal(one.scores, other.scores)
    assert np.array_equal(pixels, before)


def test_all_pictures_are_predicted_as_they_are_asked_for(brightest, colours):
    given = []

    def pictures():
        for picture in (colours, colours[:8]):
            given.append(picture.shape)
            yield picture

    found = brightest.predict_all(pictures(), tile=64, overlap=8)
    assert given == []
    assert [result.labels.shape for result in found] == [(32, 48), (8, 48)]


def test_pictures_side_by_side_are_those_one_after_the_other(tiny_predictor, colours):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pictures = [colours, colours[:20], colours[:, ::-1], colours[:20]] * 3
        found = list(tiny_predictor.predict_all(pictures))
    finally:
        torch.set_num_threads(before)
    for result, picture in zip(found, pictures, strict=True):
        alone = tiny_predictor.predict(picture)
        assert np.array_equal(result.image, alone.image)
        assert np.mean(result.labels != alone.labels) < 0.02
        assert np.allclose(result.scores, alone.scores, atol=0.02)


@pytest.mark.parametrize("classes", [2, 255, 256, 300])
def test_the_first_of_equal_classes_is_taken(classes):
    logits = torch.zeros(1, classes, 2, 3)
    logits[0, -1, 0, 0] = 5
    logits[0, 1, 0, 1] = logits[0, -1, 0, 1] = 2
    logits[0, 1, 1, 2] = torch.nan
    labels, scores = _decide(logits)
    assert labels[0].tolist() == [classes - 1, 1, 0]
    assert 0 <= labels[1, 2] < classes
    assert np.isnan(scores[1, 2])
    assert np.isclose(scores[0, 0], logits[0, :, 0, 0].softmax(0).max())
    assert np.isclose(scores[1, 0], 1 / classes)


def test_more_classes_than_a_byte_holds():
    model = nn.Module()
    model.forward = lambda images: SemanticOutputs(
        torch.stack([((images[:, 0] * 255).round() == value).float() for value in range(300)], dim=1)
    )
    predictor = predictor_of(model, classes=300)
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, -1)
    for tile in (None, 8):
        found = predictor.predict(pixels, tile=tile, overlap=2)
        assert found.labels.dtype == np.int32
        assert np.array_equal(found.labels, pixels[..., 0])


@pytest.mark.parametrize(
    ("picture", "text"),
    [
        (np.zeros((4, 4), np.uint8), r"image must be \(H, W, 3\) uint8 pixels; got uint8 \(4, 4, 1\)"),
        (np.zeros((4, 4, 4), np.uint8), r"got uint8 \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), np.float32), r"got float32 \(4, 4, 3\)"),
        (np.zeros((0, 4, 3), np.uint8), r"got uint8 \(0, 4, 3\)"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), r"be a \(C, H, W\) tensor; got \(1, 3, 4, 4\)"),
        (torch.zeros(3, 4, 4), r"got float32 \(4, 4, 3\)"),
        ([[1, 2], [3, 4]], "image must be a file, a PIL image, an array or a tensor; got list"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_picture_is_refused(brightest, picture, text):
    with pytest.raises(ArgumentError, match=text):
        brightest.predict(picture)


def test_options_that_cannot_be(brightest, colours):
    with pytest.raises(ArgumentError, match=r"overlap must be smaller than tile \(32\); got 64"):
        brightest.predict(colours, tile=32)
    with pytest.raises(ArgumentError, match="tile must be a positive number of pixels; got 0"):
        brightest.predict(colours, tile=0)
    with pytest.raises(UnknownNameError, match="Did you mean 'flip'"):
        brightest.predict(colours, tta="flp")
    with pytest.raises(UnknownNameError, match=r"crf must be a known name; got 'defalt'\. Did you mean 'default'"):
        brightest.predict(colours, crf="defalt")
    with pytest.raises(UnknownNameError, match=r"superpixels must be a known name; got 'slik'\. Did you mean 'slic'"):
        brightest.predict(colours, superpixels="slik")
    with pytest.raises(ArgumentError, match="islands must be an area of 0 pixels or more; got -4"):
        brightest.predict(colours, islands=-4)
    with pytest.raises(UnknownNameError, match="precision must be a known name; got 'bf16'"):
        SemanticPredictor(Brightest(), brightest.card, precision="bf16")


def test_files_that_are_no_pictures_are_named(brightest, tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"a\.png"):
        brightest.predict(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"must exist; got .*b\.png"):
        brightest.predict(str(tmp_path / "b.png"))


def test_a_huge_picture_asks_for_tiles(brightest, tmp_path):
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    path = tmp_path / "huge.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    with pytest.raises(DataError, match=r"at most 100,000,000 pixels; got 20000 x 20000 in .*huge\.png.*--tile"):
        brightest.predict(path)


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_other_precisions_give_float32_logits_near_the_same(tiny_predictor, tiny_run, precision):
    pixels = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8)
    exact, rough = tiny_predictor.logits(pixels), load(tiny_run.path, precision=precision).logits(pixels)
    assert rough.dtype == torch.float32
    # the mean: a maximum that rounding moves is unpooled to another place
    assert (exact - rough).abs().mean() <= 0.02 * exact.abs().mean()


def test_a_loaded_run_predicts_as_its_validation_did(tiny_run: Run, squares):
    scores = evaluate(load(tiny_run.path, precision="float32"), squares, boundary=False)
    best = max(value for _, value in tiny_run.read_curves()["val/miou"])
    assert scores["miou"] == pytest.approx(best, abs=1e-3)


def test_loading_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match="finished run folder"):
        load(tmp_path)


def test_pixels_that_are_not_rgb_are_shown_grey():
    pixels = np.arange(2 * 3 * 5, dtype=np.uint8).reshape(2, 3, 5)
    assert np.array_equal(displayed(pixels), np.stack([pixels[..., 0]] * 3, -1))
    rgb = pixels[..., :3]
    assert displayed(rgb) is rgb


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    for name in ("b.png", "a.JPG", "notes.txt", "in/c.tif", "in/deep/[d].png", ".hidden.png", "in/._c.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(found: list[Path]) -> list[str]:
    return [path.as_posix() for path in found]


def test_files_folders_and_globs_name_images(folder):
    assert names(image_files(["."])) == ["a.JPG", "b.png", "in/c.tif", "in/deep/[d].png"]
    assert names(image_files(["b.png", Path("in")])) == ["b.png", "in/c.tif", "in/deep/[d].png"]
    assert names(image_files(["in/deep/[d].png"])) == ["in/deep/[d].png"]
    assert names(image_files(["*.png"])) == [".hidden.png", "b.png"]
    assert names(image_files(["in/**/*.png"])) == ["in/deep/[d].png"]
    assert names(image_files(["in/../?.png"])) == ["in/../b.png"]
    assert names(image_files([str(folder / "in" / "*.t?f")])) == [
        str(folder / "in" / "._c.tif"),
        str(folder / "in/c.tif"),
    ]
    assert names(image_files(["notes.txt"])) == ["notes.txt"]  # named by hand: reading it says what it is


def test_no_image_comes_twice_however_it_is_written(folder):
    given = ["b.png", "./b.png", "in/../b.png", folder / "b.png", "b.*", "."]
    assert names(image_files(given)) == ["b.png", "a.JPG", "in/c.tif", "in/deep/[d].png"]


@pytest.mark.parametrize("pattern", ["c.png", "*.webp", "folder.png", "a**b", "", "/nowhere/*.png"])
def test_a_name_without_images_is_an_error(folder, pattern):
    if pattern == "":
        pattern = "folder.png/"
    with pytest.raises(DataError, match=r"image must name a file, a folder with images or a glob; got '.*holds none"):
        image_files([pattern])
