import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from delineate.data.objects.segmentations import Runs, segmentation_masks
from delineate.errors import DataError
from tests.coco_scenes import run_lengths

SIZE = (30, 40)
SQUARE = [4.0, 5.0, 14.0, 5.0, 14.0, 15.0, 4.0, 15.0]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools


def place(i):
    return f"record {i} of file"


def masks_of(*segmentations, sizes=None, folder=None):
    sizes = np.array([SIZE] * len(segmentations) if sizes is None else sizes, np.int64).reshape(-1, 2)
    return segmentation_masks(segmentations, sizes, place, folder)


def random_mask(generator, size=SIZE):
    mask = np.zeros(size, np.uint8)
    top, left = generator.integers(0, 20, 2)
    mask[top : top + generator.integers(0, 12), left : left + generator.integers(0, 12)] = 1
    return mask * (generator.random(size) < 0.9)


def text_of(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def test_by_hand():
    masks = masks_of(Runs((2, 2), "13"), Runs((2, 2), [1, 3]), [[0, 0, 2, 0, 2, 2, 0, 2]], sizes=[(2, 2)] * 3)
    assert [mask.decode().astype(int).tolist() for mask in masks] == [[[0, 1], [1, 1]]] * 2 + [[[1, 1], [1, 1]]]


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_keeps_its_order(seed, tmp_path):
    generator = np.random.default_rng(seed)
    segmentations, expected = [], []
    for i in range(40):
        mask, kind = random_mask(generator), generator.integers(0, 4)
        if kind == 0:
            segmentations.append(Runs(SIZE, text_of(mask)))
        elif kind == 1:
            segmentations.append(Runs(SIZE, run_lengths(mask)))
        elif kind == 2:
            Image.fromarray(mask * generator.integers(1, 256, dtype=np.uint8)).save(tmp_path / f"{i}.png")
            segmentations.append(f"{i}.png")
        else:
            polygons = generator.uniform(-5, 45, (generator.integers(1, 4), 8)).round(2).tolist()
            segmentations.append(polygons)
            mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *SIZE)))
        expected.append(mask.astype(bool))
    masks = masks_of(*segmentations, folder=tmp_path)
    assert np.array_equal([mask.decode() for mask in masks], expected)
    assert masks.areas().tolist() == [int(mask.sum()) for mask in expected]


def test_masks_of_images_of_different_sizes():
    masks = masks_of([SQUARE], Runs((3, 2), [0, 6]), Runs((1, 4), "04"), sizes=[(50, 60), (3, 2), (0, 0)])
    assert masks.sizes.tolist() == [[50, 60], [3, 2], [1, 4]]  # the last image does not say
    assert masks.areas().tolist() == [100, 6, 4]


def test_nothing():
    assert len(masks_of()) == 0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, r"segmentation must be polygons or run lengths; got none in record 1 of file\."),
        ([], r"segmentation must be polygons or run lengths; got none in record 1 of file\."),
        ([SQUARE, []], r"polygon must be x, y of at least three corners; got 0 coordinates in record 1 of file\."),
        ([[1.0] * 5], r"polygon must be x, y of at least three corners; got 5 coordinates in record 1 of file\."),
        ([[1.0] * 4], r"got 4 coordinates in record 1 of file\."),
        ([SQUARE, [1.0] * 7], r"got 7 coordinates in record 1 of file\."),
        ([[1e300] * 6], r"segmentation must be a mask; got a corner at 1e\+300, .* in record 1 of file\."),
        (Runs((30, 41), "0"), r"size must be \(30, 40\), as the image's; got \(30, 41\) in record 1 of file\."),
        (Runs((40, 30), [1200]), r"size must be \(30, 40\), as the image's; got \(40, 30\) in record 1 of file\."),
        (Runs((-1, 5), "0"), r"size must be \(30, 40\), .* got \(-1, 5\) in record 1 of file\."),
        (Runs(SIZE, ""), r"segmentation must be a mask; got sums to 0, not 30 x 40 pixels in record 1 of file\."),
        (Runs(SIZE, "zz\x00"), r"segmentation must be a mask; got not run lengths: .* in record 1 of file\."),
        (Runs(SIZE, "é"), r"segmentation must be a mask; got not run lengths: 'é' in record 1 of file\."),
        (Runs(SIZE, []), r"segmentation must be a mask; got .* in record 1 of file\."),
        (
            Runs(SIZE, [1199]),
            r"segmentation must be a mask; got sums to 1199, not 30 x 40 pixels in record 1 of file\.",
        ),
        (Runs(SIZE, [1300, -100]), r"segmentation must be a mask; got not run lengths: -100 in record 1 of file\."),
        (Runs(SIZE, [2**62] * 4), r"segmentation must be a mask; got not run lengths: 4611686018427387904 in record 1"),
        ("missing.png", r"segmentation must name a picture; got 'missing\.png' in record 1 of file: .*must exist"),
        ("missing.npy", r"segmentation must name a picture; got 'missing\.npy' in record 1 of file: .*must exist"),
        (
            "text.png",
            r"segmentation must name a picture; got 'text\.png' in record 1 of file: .*content is none of these",
        ),
        ("x" * 5000 + ".npy", r"segmentation must name a picture; got 'x+' in record 1 of file: .*too long"),
        ("", r"segmentation must name a picture inside the folder of its file; got '' in record 1 of file\."),
        ("nul\x00.png", r"inside the folder of its file; got 'nul\\x00\.png' in record 1 of file\."),
        ("two\nlines.png", r"inside the folder of its file; got 'two\\nlines\.png' in record 1 of file\."),
        ("../small.png", r"inside the folder of its file; got '\.\./small\.png' in record 1 of file\."),
        ("..\\small.png", r"inside the folder of its file; got '\.\..*small\.png' in record 1 of file\."),
        ("/dev/zero", r"inside the folder of its file; got '/dev/zero' in record 1 of file\."),
        ("small.png", r"mask must be \(30, 40\), as its image; got \(2, 3\) in record 1 of file\."),
    ],
    ids=lambda value: str(value)[:30].replace("\x00", "0") if not isinstance(value, str) else "",
)
def test_what_is_wrong_is_named(wrong, message, tmp_path):
    Image.new("L", (3, 2)).save(tmp_path / "small.png")
    (tmp_path / "text.png").write_text("no picture")
    for before, after in (([SQUARE], [SQUARE]), (Runs(SIZE, [0, 1200]), Runs(SIZE, [600, 600]))):
        with pytest.raises(DataError, match=message) as error:
            masks_of(before, wrong, after, folder=tmp_path)
        assert "\n" not in str(error.value)
        assert "\x00" not in str(error.value)


def test_polygons_need_the_size_of_their_image():
    with pytest.raises(
        DataError, match=r"image must have a height and a width to draw polygons; got none for record 1 "
    ):
        masks_of([SQUARE], [SQUARE], sizes=[(30, 40), (0, 0)])
    with pytest.raises(
        DataError, match=r"segmentation must be a mask; got size \(65536, 65536\) .* in record 0 of file"
    ):
        masks_of([SQUARE], sizes=[(65536, 65536)])
