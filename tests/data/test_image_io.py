import io
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from delineate.data.image_io import (
    IMAGE_SUFFIXES,
    image_from_pillow,
    image_header,
    image_size,
    is_colour_mask,
    mask_palette,
    read_ids,
    read_image,
    turned,
)
from delineate.errors import ArgumentError, DataError

RGB = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [0, 0, 0], [255, 255, 255]]], np.uint8)


@pytest.fixture
def save(tmp_path):
    def saved(picture, name="a.png", **options):
        if isinstance(picture, np.ndarray):
            picture = Image.fromarray(picture)
        picture.save(tmp_path / name, **options)
        return tmp_path / name

    return saved


def noise(height=40, width=60):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm", "webp", "jp2"])
def test_lossless_formats_keep_every_pixel(save, suffix):
    path = save(RGB, f"a.{suffix}", **({"lossless": True} if suffix == "webp" else {}))
    pixels = read_image(path)
    assert np.array_equal(pixels, RGB)
    assert pixels.flags.writeable
    assert pixels.flags.c_contiguous
    assert image_size(path) == (2, 3)


@pytest.mark.parametrize("suffix", ["jpg", "gif", "avif"])
def test_lossy_formats_come_close(save, suffix):
    smooth = np.broadcast_to(np.linspace(0, 255, 64, dtype=np.uint8)[:, None, None], (64, 48, 3)).copy()
    try:
        path = save(smooth, f"a.{suffix}")
    except OSError as error:
        pytest.skip(str(error))
    assert np.abs(read_image(path).astype(int) - smooth).max() <= 24
    assert path.suffix in IMAGE_SUFFIXES


def test_grey_becomes_three_equal_channels_and_colour_becomes_luma(save):
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    path = save(grey)
    assert np.array_equal(read_image(path), np.repeat(grey[..., None], 3, 2))
    assert np.array_equal(read_image(path, channels=1)[..., 0], grey)
    assert read_image(save(RGB, "b.png"), channels=1)[0, :, 0].tolist() == [76, 150, 29]


def test_one_bit_is_black_and_white(save):
    path = save(Image.fromarray(np.array([[0, 255, 0]], np.uint8)).convert("1"))
    assert read_image(path, channels=1)[..., 0].tolist() == [[0, 255, 0]]
    assert read_ids(path).tolist() == [[0, 1, 0]]


def test_transparency_lies_on_white_and_four_channels_keep_it(save):
    pixels = np.array([[[200, 0, 0, 255], [200, 0, 0, 0], [200, 0, 0, 128]]], np.uint8)
    path = save(pixels)
    assert read_image(path)[0].tolist() == [[200, 0, 0], [255, 255, 255], [227, 127, 127]]
    assert np.array_equal(read_image(path, channels=4), pixels)
    assert read_image(save(RGB, "b.png"), channels=4)[..., 3].min() == 255
    grey_alpha = save(Image.fromarray(np.array([[[9, 255], [9, 0]]], np.uint8), "LA"), "c.png")
    assert read_image(grey_alpha, channels=1)[0, :, 0].tolist() == [9, 255]


def test_palette_becomes_colour_also_with_transparent_entries(save):
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    assert read_image(save(picture))[0].tolist() == [[10, 20, 30], [40, 50, 60], [70, 80, 90]]
    path = save(picture, "b.png", transparency=bytes([255, 0, 255]))
    assert read_image(path)[0].tolist() == [[10, 20, 30], [255, 255, 255], [70, 80, 90]]
    assert read_ids(path).tolist() == [[0, 1, 2]]
    assert read_image(path, channels=1).shape == (1, 3, 1)


def test_cmyk_becomes_what_pillow_shows(save):
    path = save(Image.fromarray(noise()).convert("CMYK"), "a.jpg")
    assert np.array_equal(read_image(path), np.array(Image.open(path).convert("RGB")))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 257, 65535], [0, 1, 255]),  # the whole range of 16 bits
        ([0, 4095, 2048], [0, 255, 128]),  # 12 bits of a camera
        ([0, 255, 7], [0, 255, 7]),  # 8 bits that were stored in 16
        ([0, 0, 0], [0, 0, 0]),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif", "npy"])
def test_sixteen_bits_are_scaled_by_the_range_they_use(save, tmp_path, values, expected, suffix):
    array = np.array([values], np.uint16)
    path = tmp_path / "a.npy"
    if suffix == "npy":
        np.save(path, array)
    else:
        path = save(array, f"a.{suffix}")
    assert read_image(path, channels=1)[0, :, 0].tolist() == expected
    assert read_image(path).shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("values", "expected"), [([0, 0.5, 1], [0, 128, 255]), ([0, 7, 200], [0, 7, 200]), ([-1, 0, 3], [0, 64, 255])]
)
def test_floating_point_is_a_share_or_a_byte_or_stretched(save, values, expected):
    path = save(np.array([values], np.float32), "a.tif")
    assert read_image(path, channels=1)[0, :, 0].tolist() == expected


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_exif_orientation_turns_picture_and_size(save, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(noise(), f"a.{suffix}", exif=exif)
    expected = np.array(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    assert np.array_equal(read_image(path), expected)
    assert image_size(path) == expected.shape[:2]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_equals_pillow(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(RGB)
    picture.info["exif"] = exif.tobytes()
    picture.getexif()[0x0112] = orientation
    assert np.array_equal(turned(RGB, orientation), np.array(ImageOps.exif_transpose(picture)))


def test_damaged_exif_does_not_harm_the_picture(save):
    path = save(noise(), "a.jpg", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert read_image(path).shape == (40, 60, 3)
    assert image_header(path) == ((40, 60), 1)


def test_the_first_frame_of_an_animation(save):
    frames = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (10, 200)]
    path = save(frames[0], "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(path, channels=1).max() == 10


def test_npy_carries_any_number_of_channels(tmp_path):
    bands = np.random.default_rng(0).integers(0, 256, (4, 5, 6), np.uint8)
    np.save(tmp_path / "a.npy", bands)
    assert np.array_equal(read_image(tmp_path / "a.npy", channels=6), bands)
    assert image_size(tmp_path / "a.npy") == (4, 5)
    with pytest.raises(DataError, match=r"image must have 3 channels; got 6 in .*a\.npy\. Pass channels=6"):
        read_image(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", bands[..., 0])
    assert np.array_equal(read_image(tmp_path / "b.npy"), np.repeat(bands[..., :1], 3, 2))
    with pytest.raises(ArgumentError, match="channels must be 1, 3 or 4 for picture files; got 6"):
        read_image(tmp_path / "a.png", channels=6)


def test_pictures_that_are_already_open_follow_the_same_rules(save):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(noise(), "a.png", exif=exif)
    assert np.array_equal(image_from_pillow(Image.open(path)), read_image(path))
    assert np.array_equal(image_from_pillow(Image.fromarray(RGB)), RGB)
    deep = Image.fromarray(np.array([[0, 4095]], np.uint16))
    assert image_from_pillow(deep, channels=1)[0, :, 0].tolist() == [0, 255]
    cut = save(noise(), "cut.jpg")
    cut.write_bytes(cut.read_bytes()[:700])
    with Image.open(cut) as picture, pytest.raises(DataError, match=r"cut\.jpg"):
        image_from_pillow(picture)
    with pytest.raises(ArgumentError, match="channels must be 1, 3 or 4"):
        image_from_pillow(deep, channels=2)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp", "jp2"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_are_named(save, suffix, share):
    path = save(noise(100, 100), f"broken.{suffix}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match=rf"image must be .*broken\.{suffix}"):
        read_image(path)


def test_missing_empty_foreign_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"image must exist; got .*none\.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(DataError, match=r"image must exist; got .*none\.npy"):
        read_image(tmp_path / "none.npy")
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"empty\.png, which is empty \(0 bytes\)"):
        read_image(tmp_path / "empty.png")
    (tmp_path / "text.png").write_text("P")
    with pytest.raises(DataError, match=r"text\.png"):
        read_image(tmp_path / "text.png")
    (tmp_path / "page.jpg").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"mask must be a picture \(PNG, JPEG, .*page\.jpg, whose content is none"):
        read_ids(tmp_path / "page.jpg")
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    with pytest.raises(DataError, match="whose content is none of these"):
        read_image(tmp_path / "script.eps")
    with pytest.raises(DataError, match=r"Is a directory|Permission denied"):
        read_image(tmp_path)


def test_arrays_that_carry_code_or_nonsense_are_not_read(tmp_path):
    np.save(tmp_path / "code.npy", np.array([{"a": 1}], object), allow_pickle=True)
    np.save(tmp_path / "flat.npy", np.zeros(4))
    np.save(tmp_path / "nan.npy", np.array([[np.nan, 1.0]]))
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "nan.npy").read_bytes()[:-4])
    (tmp_path / "empty.npy").touch()
    for name, reason in [
        ("code", "whole .npy array"),
        ("flat", r"shape \(4,\)"),
        ("nan", "finite; got NaN"),
        ("words", "must hold numbers"),
        ("cut", "whole .npy array"),
        ("empty", "whole .npy array"),
    ]:
        with pytest.raises(DataError, match=reason) as raised:
            read_image(tmp_path / f"{name}.npy", channels=1)
        assert f"{name}.npy" in str(raised.value)


def png_of_size(width, height):
    """A valid header that promises far more than the file holds."""

    def chunk(kind, content):
        return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_000, 20_000), (10_001, 10_000), (2**31 - 1, 2**31 - 1)])
def test_bombs_are_refused_by_their_header(tmp_path, size):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of_size(*size))
    settings = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with pytest.raises(DataError, match=r"at most 100,000,000 pixels; got .* in .*bomb\.png.*--tile"):
            read_image(path)
        assert image_size(path) == size[::-1]
    assert heard == []
    assert settings == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


def test_the_limit_is_the_callers(save, tmp_path):
    path = save(noise(30, 40))
    with pytest.raises(DataError, match=r"at most 1,199 pixels; got 30 x 40"):
        read_image(path, max_pixels=1199)
    assert read_image(path, max_pixels=1200).shape == (30, 40, 3)
    np.save(tmp_path / "a.npy", noise(30, 40))
    with pytest.raises(DataError, match=r"at most 1,199 pixels; got 30 x 40"):
        read_image(tmp_path / "a.npy", max_pixels=1199)


def test_pictures_beyond_pillows_own_limit_are_read_when_asked_for(save, monkeypatch):
    path = save(noise(30, 40))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(path).shape == (30, 40, 3)


def test_ids_of_eight_and_sixteen_bits_and_arrays(save, tmp_path):
    small, wide = np.array([[0, 3, 255]], np.uint8), np.array([[0, 300, 65535]], np.uint16)
    assert read_ids(save(small)).dtype == np.uint8
    assert np.array_equal(read_ids(save(small)), small)
    for suffix in ("png", "tif"):
        ids = read_ids(save(wide, f"b.{suffix}"))
        assert np.array_equal(ids, wide)
        assert ids.dtype == np.uint16
    np.save(tmp_path / "c.npy", np.array([[-1, 2]], np.int64))
    assert read_ids(tmp_path / "c.npy").tolist() == [[-1, 2]]
    np.save(tmp_path / "d.npy", np.array([[0.5]]))
    with pytest.raises(DataError, match=r"whole numbers; got fractions in .*d\.npy"):
        read_ids(tmp_path / "d.npy")
    np.save(tmp_path / "e.npy", np.array([[1 << 40]]))
    with pytest.raises(DataError, match=r"at most 32 bits"):
        read_ids(tmp_path / "e.npy")
    np.save(tmp_path / "f.npy", np.zeros((2, 2, 3), np.uint8))
    with pytest.raises(DataError, match="one value a pixel"):
        read_ids(tmp_path / "f.npy")


def test_colour_masks_need_named_colours(save):
    path = save(RGB)
    with pytest.raises(DataError, match=r"colours that are named; got a colour picture, .*a\.png. Name the colours"):
        read_ids(path)
    ids = read_ids(path, colours={0xFF0000: 1, 0x00FF00: 2, 0: 0, 0xFFFFFF: 255})
    assert ids.tolist() == [[1, 2, -2 - 0x0000FF], [-2 - 0x0A141E, 0, 255]]
    assert is_colour_mask(path)
    grey = np.repeat(np.array([[[0], [7]]], np.uint8), 3, 2)
    assert read_ids(save(grey, "b.png")).tolist() == [[0, 7]]


def test_palette_of_masks(save):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    picture.putpalette([1, 2, 3, 4, 5, 6])
    assert mask_palette(save(picture))[:2] == ((1, 2, 3), (4, 5, 6))
    assert mask_palette(save(RGB, "b.png")) is None
    assert not is_colour_mask(save(picture))


def test_random_bytes_never_do_anything_but_say_so(tmp_path):
    rng = np.random.default_rng(0)
    good = io.BytesIO()
    Image.fromarray(noise()).save(good, "PNG")
    for turn in range(60):
        content = np.frombuffer(good.getvalue(), np.uint8).copy()
        places = rng.integers(8, len(content), 20)
        content[places] = rng.integers(0, 256, 20)
        path = tmp_path / f"{turn}.png"
        path.write_bytes(content.tobytes())
        try:
            outcome = str(read_image(path).shape)
        except DataError as error:
            outcome = str(error)
        assert outcome == "(40, 60, 3)" or str(path) in outcome
