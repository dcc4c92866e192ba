import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from delineate.data import json_files
from delineate.data.objects import panoptic
from delineate.data.objects.panoptic import panoptic_pairs, read_panoptic, read_panoptic_map
from delineate.errors import DataError
from delineate.metrics.panoptic_metric import PanopticScores
from delineate.structures.panoptic import PanopticClasses

CATEGORIES = [
    {"id": 9, "name": "sky", "isthing": 0},
    {"id": 2, "name": "cat", "isthing": 1, "color": [1, 2, 3], "supercategory": "animal"},
    {"id": 4, "name": "cat", "isthing": True},
]
IDS = np.array([[0, 700, 700, 1], [5, 700, 66051, 1]])
SEGMENTS = [
    {"id": 700, "category_id": 9, "area": 3, "iscrowd": 0, "bbox": [1, 0, 2, 2]},
    {"id": 1, "category_id": 4, "area": 99},
    {"id": 66051, "category_id": 2, "iscrowd": 1},
    {"id": 5, "category_id": 2},
]


def picture(ids):
    ids = np.asarray(ids)
    return Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8))


def content(**changes):
    images = [{"id": 3, "file_name": "x.jpg", "height": 2, "width": 4}]
    annotations = [{"image_id": 3, "file_name": "x.png", "segments_info": SEGMENTS}]
    return {"images": images, "annotations": annotations, "categories": CATEGORIES, **changes}


def segment(**changes):
    """A file whose first segment is changed, or is without a key that is None."""
    first = {key: value for key, value in {**SEGMENTS[0], **changes}.items() if value is not None}
    return content(annotations=[{"image_id": 3, "file_name": "x.png", "segments_info": [first, *SEGMENTS[1:]]}])


@pytest.fixture
def put(tmp_path):
    """Writes a JSON file and its folder of PNGs; gives the file's path."""

    def written(value=None, pictures=None, name="truth"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file, drawn in ({"x.png": IDS} if pictures is None else pictures).items():
            (drawn if isinstance(drawn, Image.Image) else picture(drawn)).save(folder / file)
        path = folder.with_suffix(".json")
        path.write_text(value if isinstance(value, str) else json.dumps(content() if value is None else value))
        return path

    return written


def scored(truth, predictions, threads=None):
    scores = PanopticScores(truth.classes.names, truth.classes.things)
    for _, prediction, target in panoptic_pairs(truth, predictions, threads=threads):
        scores.update(prediction, target)
    return scores.compute()


def by_definition(truth_path, prediction_path):
    """panopticapi's algorithm, from the files: {category: [sum of IoU, TP, FP, FN]}."""
    truth, predictions = (json.loads(Path(path).read_text()) for path in (truth_path, prediction_path))
    predicted = {entry["image_id"]: entry for entry in predictions["annotations"]}
    sums = {category["id"]: [0.0, 0, 0, 0] for category in truth["categories"]}
    for entry in truth["annotations"]:
        maps = []
        for path, described in ((truth_path, entry), (prediction_path, predicted[entry["image_id"]])):
            colours = np.array(Image.open(Path(path).with_suffix("") / described["file_name"])).astype(np.int64)
            maps.append(colours @ [1, 256, 65536])
        target, found = maps
        segments = {s["id"]: s for s in entry["segments_info"]}
        others = {s["id"]: s for s in predicted[entry["image_id"]]["segments_info"]}
        area = dict(zip(*(column.tolist() for column in np.unique(found, return_counts=True)), strict=True))
        pairs, counts = np.unique(target * 2**24 + found, return_counts=True)
        shared = {divmod(pair, 2**24): n for pair, n in zip(pairs.tolist(), counts.tolist(), strict=True)}
        hit = set()
        for (i, j), n in shared.items():
            if i and j and not segments[i]["iscrowd"] and segments[i]["category_id"] == others[j]["category_id"]:
                iou = n / (segments[i]["area"] + area[j] - n - shared.get((0, j), 0))
                if iou > 0.5:
                    sums[segments[i]["category_id"]][0] += iou
                    sums[segments[i]["category_id"]][1] += 1
                    hit |= {("true", i), ("found", j)}
        crowds = {s["category_id"]: i for i, s in segments.items() if s["iscrowd"]}
        for i, s in segments.items():
            sums[s["category_id"]][3] += ("true", i) not in hit and not s["iscrowd"]
        for j, s in others.items():
            excused = shared.get((0, j), 0) + shared.get((crowds.get(s["category_id"], -1), j), 0)
            sums[s["category_id"]][2] += ("found", j) not in hit and excused / area[j] <= 0.5
    return sums


def assert_same_scores(scores, sums, categories):
    expected = {c["id"]: c for c in categories}
    quality = {"all": [], "things": [], "stuff": []}
    for values, category in zip(scores["per_class"].values(), sorted(sums), strict=True):
        iou_sum, tp, fp, fn = sums[category]
        assert (values["tp"], values["fp"], values["fn"]) == (tp, fp, fn)
        assert values["iou_sum"] == pytest.approx(iou_sum, rel=1e-12)
        if tp + fp + fn:
            pq = iou_sum / (tp + 0.5 * fp + 0.5 * fn)
            for group in ("all", "things" if expected[category]["isthing"] else "stuff"):
                quality[group].append(pq)
    for group, values in quality.items():
        assert scores[group]["classes"] == len(values)
        assert scores[group]["pq"] == pytest.approx(np.mean(values), rel=1e-12)


def disturbed(source, target, seed):
    """A copy of panoptic files whose segments are shifted, merged, dropped, of another class, or renamed."""
    generator = np.random.default_rng(seed)
    value = json.loads(source.read_text())
    target.with_suffix("").mkdir()
    categories = [category["id"] for category in value["categories"]]
    for entry in value["annotations"]:
        colours = np.array(Image.open(source.with_suffix("") / entry["file_name"])).astype(np.int64)
        ids = np.roll(colours @ [1, 256, 65536], generator.integers(-6, 7, 2), axis=(0, 1))
        category = {s["id"]: s["category_id"] for s in entry["segments_info"]}
        for old in list(category):
            chance = generator.random()
            if chance < 0.15:
                ids[ids == old] = 0
            elif chance < 0.3:
                ids[ids == old] = generator.choice(list(category))
            elif chance < 0.4:
                category[old] = int(generator.choice(categories))
            elif chance < 0.5:
                new = int(generator.integers(1, 256**3))
                category[new] = category[old]
                ids[(ids == old) & (np.arange(ids.shape[1]) % 400 < 200)] = new
        voids = ids == 0
        ids[voids & (np.arange(len(ids))[:, None] % 3 > 0)] = 77
        category[77] = categories[0]
        picture(ids).save(target.with_suffix("") / entry["file_name"])
        entry["segments_info"] = [{"id": int(i), "category_id": category[int(i)]} for i in np.unique(ids) if i]
    target.write_text(json.dumps({"annotations": value["annotations"][::-1]}))
    return target


def test_a_file_by_hand(put):
    truth = read_panoptic(put())
    assert truth.classes == PanopticClasses(("cat (2)", "cat (4)", "sky"), (True, True, False), (2, 4, 9))
    assert truth.image_ids == (3,)
    assert truth.image_sizes == ((2, 4),)
    found = read_panoptic_map(truth, 0)
    assert found.name == "x"
    assert np.array_equal(found.ids, IDS)
    assert found.segments.ids.tolist() == [700, 1, 66051, 5]
    assert found.segments.labels.tolist() == [2, 1, 0, 0]
    assert found.segments.crowd.tolist() == [False, False, True, False]
    assert found.areas.tolist() == [3, 2, 1, 1]


def test_a_map_goes_out_as_it_came_in(put):
    truth = read_panoptic(put())
    found = read_panoptic_map(truth, 0)
    colours, described = found.to_coco(truth.classes)
    annotation = {"image_id": 3, "file_name": "x.png", "segments_info": described}
    again = read_panoptic_map(
        read_panoptic(put(content(annotations=[annotation]), {"x.png": Image.fromarray(colours)}, "again")), 0
    )
    assert np.array_equal(again.ids, found.ids)
    for column in ("ids", "labels", "crowd"):
        assert np.array_equal(getattr(again.segments, column), getattr(found.segments, column))
    assert described[0] == {**SEGMENTS[0], "isthing": 0}


def test_names_as_image_ids_and_a_folder_of_ones_own(put, tmp_path):
    annotations = [{"image_id": "bonn_1", "file_name": "deep\\bonn_1.png", "segments_info": SEGMENTS}]
    path = put(content(annotations=annotations, images=[{"id": "bonn_1"}]))
    (tmp_path / "maps/deep").mkdir(parents=True)
    picture(IDS).save(tmp_path / "maps/deep/bonn_1.png")
    truth = read_panoptic(path, tmp_path / "maps")
    assert [name for name, *_ in panoptic_pairs(truth, truth)] == ["bonn_1"]
    assert scored(truth, truth)["all"] == {"pq": 1, "sq": 1, "rq": 1, "classes": 3}


def test_results_need_neither_images_nor_categories(put):
    truth = read_panoptic(put())
    results = put({"annotations": content()["annotations"], "categories": [{"id": 2, "name": "cat"}]}, name="found")
    assert scored(truth, read_panoptic(results, classes=truth.classes))["all"]["pq"] == 1
    with pytest.raises(DataError, match=r"missing required field `isthing` - at `\$.categories\[0\]`"):
        read_panoptic(results)


def test_predictions_of_other_images_are_passed_over(put):
    annotation = content()["annotations"][0]
    truth = read_panoptic(put())
    more = {"annotations": [{**annotation, "image_id": 8, "file_name": "gone.png"}, annotation]}
    predictions = read_panoptic(put(more, name="found"), classes=truth.classes)
    assert scored(truth, predictions)["images"] == 1


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_pictures_of_other_kinds_hold_the_same_ids(put, mode):
    drawn = picture(IDS)
    if mode == "RGBA":
        drawn.putalpha(Image.fromarray(np.arange(8, dtype=np.uint8).reshape(2, 4)))  # mostly transparent
    else:
        drawn = drawn.quantize(16)
    assert drawn.mode == mode
    assert np.array_equal(read_panoptic_map(read_panoptic(put(None, {"x.png": drawn})), 0).ids, IDS)


def test_a_colour_that_is_called_transparent_is_an_id_like_others(put):
    path = put()
    picture(IDS).save(path.with_suffix("") / "x.png", transparency=(700 & 255, 700 >> 8, 0))
    assert np.array_equal(read_panoptic_map(read_panoptic(path), 0).ids, IDS)


def test_all_void_and_no_image(put):
    empty = content(annotations=[{"image_id": 3, "file_name": "x.png", "segments_info": []}])
    void = read_panoptic(put(empty, {"x.png": np.zeros((2, 4), int)}))
    assert np.isnan(scored(void, void)["all"]["pq"])
    none = read_panoptic(put(content(annotations=[], images=[]), {}))
    assert list(panoptic_pairs(none, none)) == []


def test_the_real_sample_against_itself(real_data):
    truth = read_panoptic(real_data / "refvec/panoptic_sample/sample_data/panoptic_examples.json")
    assert truth.classes.num_classes == 133
    assert sum(truth.classes.things) == 80
    scores = scored(truth, truth)
    assert [scores[group]["pq"] for group in ("all", "things", "stuff")] == [1, 1, 1]
    listed = sum(len(segments) - int(segments.crowd.sum()) for segments in truth.segments)
    assert sum(values["tp"] for values in scores["per_class"].values()) == listed
    assert scores["images"] == 2


@pytest.mark.parametrize("seed", range(4))
def test_the_real_sample_disturbed_equals_panopticapi(real_data, tmp_path, seed):
    source = real_data / "refvec/panoptic_sample/sample_data/panoptic_examples.json"
    truth = read_panoptic(source)
    found = disturbed(source, tmp_path / "found.json", seed)
    sums = by_definition(source, found)
    tp, fp, fn = (sum(values[k] for values in sums.values()) for k in (1, 2, 3))
    assert min(tp, fp, fn) > 3  # else nothing is tested
    predictions = read_panoptic(found, classes=truth.classes)
    scores = scored(truth, predictions)
    assert_same_scores(scores, sums, json.loads(source.read_text())["categories"])
    assert json.dumps(scored(truth, predictions, threads=3)) == json.dumps(scores)  # as text: NaN differs from NaN


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_order(put, threads):
    count = 23
    pictures = {f"{k}.png": np.full((1, 3), k + 1) for k in range(count)}
    annotations = [
        {"image_id": k, "file_name": f"{k}.png", "segments_info": [{"id": k + 1, "category_id": 2}]}
        for k in range(count)
    ]
    truth = read_panoptic(put({"categories": CATEGORIES, "annotations": annotations}, pictures))
    predictions = read_panoptic(put({"annotations": annotations[::-1]}, pictures, "found"), classes=truth.classes)
    pairs = list(panoptic_pairs(truth, predictions, threads=threads))
    assert [name for name, *_ in pairs] == [str(k) for k in range(count)]
    assert all(p.ids[0, 0] == t.ids[0, 0] == int(name) + 1 for name, p, t in pairs)


@pytest.mark.parametrize("threads", [1, 3])
def test_maps_are_read_only_a_few_images_ahead(put, monkeypatch, threads):
    annotations = [{**content()["annotations"][0], "image_id": k} for k in range(60)]
    truth = read_panoptic(put(content(annotations=annotations, images=[])))
    read = []
    original = panoptic.read_image
    monkeypatch.setattr(panoptic, "read_image", lambda path, **options: read.append(path) or original(path, **options))
    pairs = panoptic_pairs(truth, truth, threads=threads)
    assert read == []
    next(pairs)
    pairs.close()
    assert 2 <= len(read) <= 2 * (2 * threads + 1)


def test_an_error_comes_in_its_turn(put):
    annotations = [{**content()["annotations"][0], "image_id": k} for k in range(9)]
    annotations[4]["file_name"] = "gone.png"
    truth = read_panoptic(put(content(annotations=annotations, images=[])))
    for threads in (1, 3):
        seen = []
        with pytest.raises(DataError, match=r"image must exist; got .*gone\.png"):
            seen.extend(name for name, *_ in panoptic_pairs(truth, truth, threads=threads))
        assert seen == ["x"] * 4


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("{", "truncated"),
        ("[]", "Expected `object`, got `array`"),
        ('{"images": ' + "[" * 100_000, "COCO panoptic JSON"),
        ({"categories": CATEGORIES}, "missing required field `annotations`"),
        ({"annotations": []}, "missing required field `categories`"),
        (content(categories=[]), "categories must name at least one class; got none"),
        (content(categories=CATEGORIES + CATEGORIES[:1]), "categories must not repeat an id; got 9 2 times"),
        (content(categories=[{"id": 1, "name": "a"}]), r"missing required field `isthing` - at `\$.categories\[0\]`"),
        (content(images=[{"id": 3}, {"id": 3}]), "images must not repeat an id; got 3 2 times"),
        (content(images=[{"id": 3, "height": -1}]), r"`int` >= 0 - at `\$.images\[0\].height`"),
        (content(images=[{"id": "3"}]), "annotation must be of a listed image; got image 3 in"),
        (content(annotations=content()["annotations"] * 2), "annotations must not repeat an id; got 3 2 times"),
        (segment(id=0), r"`int` >= 1 - at `\$.annotations\[0\].segments_info\[0\].id`"),
        (segment(id=256**3), r"`int` <= 16777215 - at `\$.annotations"),
        (segment(id="7"), r"Expected `int`, got `str` - at"),
        (segment(id=10**40), "COCO panoptic JSON"),
        (segment(category_id=None), "missing required field `category_id`"),
        (segment(iscrowd=2), r"`int` <= 1 - at"),
        (segment(category_id=3), "segment must be of a listed category; got category 3 for segment 700 of image 3 in"),
        (segment(id=5), "for image 3 in .*: ids must not repeat a segment; got 5"),
    ],
)
def test_json_of_the_wrong_shape_is_one_line_with_the_place(put, value, message):
    path = put(value)
    with pytest.raises(DataError, match=message) as raised:
        read_panoptic(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/secret.png", "a/../../secret.png", "..\\secret.png", "C:\\x.png", "x.npy", "", ".."]
)
def test_names_never_lead_out_of_the_folder(put, name):
    path = put(content(annotations=[{"image_id": 3, "file_name": name, "segments_info": SEGMENTS}]))
    with pytest.raises(DataError, match=r"file_name must be that of a PNG inside the folder; got .* for image 3 in"):
        read_panoptic(path)


@pytest.mark.parametrize(
    ("drawn", "message"),
    [
        (IDS[:1], r"map must be 2 x 4 as its file says; got 1 x 4 in .*x\.png \(image 3 of .*truth\.json\)"),
        (
            np.where(IDS == 5, 6, IDS),
            r"\(image 3 of .*: ids must be 0 \(void\) or those of segments; got 6 at \(1, 0\)",
        ),
        (np.where(IDS == 5, 0, IDS), r"\(image 3 of .*: segments must each have pixels in ids; got none of segment 5"),
        (Image.fromarray(IDS.astype(np.uint8)), r"got 65793 .* grey picture: ids must be written as colours, R \+"),
        (np.zeros((2, 4), int), r"none of segment 700\. Leave it out\.$"),
    ],
)
def test_a_picture_that_does_not_fit_is_named(put, drawn, message):
    truth = read_panoptic(put(None, {"x.png": drawn}))
    with pytest.raises(DataError, match=message) as raised:
        read_panoptic_map(truth, 0)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"x\.png, which is empty"),
        (b"\x80\x04pickled", r"x\.png, whose content is none of these"),
        (lambda data: data[:60], r"image must be a whole, readable picture; got .*x\.png"),
        # a header that announces 2 ** 31 - 1 x 2 ** 31 - 1 pixels
        (lambda data: data[:16] + b"\x7f\xff\xff\xff" * 2 + data[24:], r"x\.png"),
    ],
)
def test_hostile_pictures_are_named(put, data, message):
    path = put()
    file = path.with_suffix("") / "x.png"
    file.write_bytes(data if isinstance(data, bytes) else data(file.read_bytes()))
    with pytest.raises(DataError, match=message):
        read_panoptic_map(read_panoptic(path), 0)


def test_pictures_too_large_are_refused(put, monkeypatch):
    monkeypatch.setattr(panoptic, "MAX_PIXELS", 7)
    with pytest.raises(DataError, match=r"image must hold at most 7 pixels; got 2 x 4 in .*x\.png"):
        read_panoptic_map(read_panoptic(put()), 0)


def test_files_that_are_not_there(put, tmp_path):
    with pytest.raises(DataError, match=r"file must be readable; got No such file or directory for .*none\.json"):
        read_panoptic(tmp_path / "none.json")
    (tmp_path / "alone.json").write_text(json.dumps(content()))
    with pytest.raises(DataError, match=r"folder must hold the PNGs of alone\.json; got .*alone, which is no folder"):
        read_panoptic(tmp_path / "alone.json")
    path = put(content(annotations=[{"image_id": 3, "file_name": "x\0.png", "segments_info": SEGMENTS}]))
    with pytest.raises(DataError, match="image must"):
        read_panoptic_map(read_panoptic(path), 0)


def test_files_too_large_are_refused(put, monkeypatch):
    monkeypatch.setattr(json_files, "MOST_BYTES", 100)
    with pytest.raises(DataError, match=r"file must be at most .* GiB; got .*truth\.json\. Split the file"):
        read_panoptic(put())


def test_predictions_that_do_not_fit_the_truth(put):
    annotation = content()["annotations"][0]
    both = [annotation, {**annotation, "image_id": 4}, {**annotation, "image_id": 5}]
    truth = read_panoptic(put(content(annotations=both, images=[])))
    one = read_panoptic(put({"annotations": both[:1]}, name="one"), classes=truth.classes)
    with pytest.raises(
        DataError, match=r"cover every image of the truth; got none for image 4 and 1 more in .*one\.js"
    ):
        panoptic_pairs(truth, one)
    other = read_panoptic(put(content(categories=[*CATEGORIES[::-1], {"id": 11, "name": "x", "isthing": 1}]), name="o"))
    with pytest.raises(DataError, match=r"predictions must be of the truth's classes; got others in .*o\.json\. Read"):
        panoptic_pairs(truth, other)
    wide = read_panoptic(put({"annotations": both}, {"x.png": np.tile(IDS, (1, 2))}, "w"), classes=truth.classes)
    with pytest.raises(DataError, match=r"prediction must be 2 x 4 as .*x\.png; got 2 x 8 in .*x\.png"):
        next(panoptic_pairs(truth, wide))
