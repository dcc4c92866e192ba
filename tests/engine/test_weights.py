"""Weights come back bit for bit, and whatever is wrong with their files is said in one line."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from delineate.engine.run import Run
from delineate.engine.weights import FORMAT, ModelCard, load_weights, read_card, save_weights
from delineate.errors import RunError
from delineate.models import catalogue
from delineate.models.catalogue import ModelEntry, create_model
from delineate.registry import Registry
from delineate.structures.outputs import SemanticOutputs
from delineate.structures.preprocessing import Preprocessing
from delineate.structures.taxonomy import Taxonomy

CARD = ModelCard(
    name="unet",
    options={"num_classes": 2, "in_channels": 4, "encoder": "resnet18", "decoder_channels": [8, 4]},
    preprocessing=Preprocessing((0.1, 0.2, 0.3, 0.4), (1.0, 2.0, 3.0, 0.7)),
    taxonomy=Taxonomy(("sky", "Straße"), colours=((1, 2, 3), (250, 0, 9)), ignore_index=254, background=0),
    precision="bfloat16",
)


def made(card: ModelCard = CARD) -> nn.Module:
    """A model with weights and statistics that no constructor gives."""
    model = create_model(card.name, **card.options)
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(0.1 * torch.rand_like(tensor))
    return model.eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[nn.Module, Path]:
    model, path = made(), tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_weights(path, model.state_dict(), CARD)
    return model, path


@pytest.fixture
def enet(tmp_path) -> Path:
    """Small weights to be damaged."""
    card = ModelCard("enet", {"num_classes": 3}, Preprocessing(), Taxonomy.numbered(3))
    save_weights(tmp_path / "model.safetensors", create_model("enet", num_classes=3).state_dict(), card)
    return tmp_path / "model.safetensors"


def edit_card(path: Path, **changes) -> None:
    values = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(values | changes))


@torch.inference_mode()
def test_outputs_preprocessing_and_names_come_back_bit_for_bit(saved):
    model, path = saved
    loaded, card = load_weights(path)
    images = torch.rand(2, 4, 33, 47)
    assert torch.equal(loaded(images).logits, model(images).logits)
    assert card == replace(CARD, options=json.loads(json.dumps(CARD.options)))
    assert card.taxonomy.colours == ((1, 2, 3), (250, 0, 9))
    pixels = torch.randint(0, 256, (1, 4, 3, 3), dtype=torch.uint8)
    assert torch.equal(card.preprocessing(pixels), CARD.preprocessing(pixels))


def test_a_loaded_model_is_for_use_and_not_for_training(saved):
    loaded, _ = load_weights(saved[1])
    assert not any(module.training for module in loaded.modules())
    assert not any(weight.requires_grad for weight in loaded.parameters())


def test_channels_last_weights_come_back(tmp_path):
    model = create_model("enet", num_classes=3).to(memory_format=torch.channels_last)
    card = ModelCard("enet", {"num_classes": 3}, Preprocessing(), Taxonomy.numbered(3))
    save_weights(tmp_path / "w.safetensors", model.state_dict(), card)
    loaded, _ = load_weights(tmp_path / "w.safetensors")
    state = loaded.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_weights_that_share_memory_are_saved(tmp_path):
    whole = torch.arange(6.0)
    save_weights(tmp_path / "w.safetensors", {"all": whole, "again": whole, "part": whole[2:4]}, CARD)
    state = load_file(tmp_path / "w.safetensors")
    assert state["all"].tolist() == state["again"].tolist() == [0, 1, 2, 3, 4, 5]
    assert state["part"].tolist() == [2, 3]


@torch.inference_mode()
def test_half_precision_files_become_single_precision_models(enet):
    save_file({name: v.half() if v.is_floating_point() else v for name, v in load_file(enet).items()}, enet)
    loaded, _ = load_weights(enet)
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    assert torch.isfinite(loaded(torch.rand(1, 3, 16, 16)).logits).all()


def test_pretrained_weights_are_not_fetched_again(enet, monkeypatch):
    seen = []
    original = catalogue.create_model

    def recorded(name, **options):
        seen.append(options)
        return original(name, **options)

    monkeypatch.setattr("delineate.engine.weights.create_model", recorded)
    edit_card(enet, model={"name": "enet", "options": {"num_classes": 3, "in_channels": 3, "pretrained": True}})
    load_weights(enet)
    assert seen == [{"num_classes": 3, "in_channels": 3}]


class WithTable(nn.Module):
    """A model with a buffer that is computed and not saved, as Swin's relative positions are."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes, self.in_channels = num_classes, 3
        self.head = nn.Conv2d(3, num_classes, 1)
        self.register_buffer("table", torch.arange(3.0).view(3, 1, 1) + 5, persistent=False)

    def forward(self, images: torch.Tensor) -> SemanticOutputs:
        return SemanticOutputs(self.head(images * self.table))


@torch.inference_mode()
def test_tensors_that_are_not_saved_come_from_the_constructor(tmp_path, monkeypatch):
    entry = ModelEntry("table", "somewhere:with_table", "semantic", "", 2024, "")
    monkeypatch.setattr(ModelEntry, "load", lambda self: lambda num_classes: WithTable(num_classes))
    monkeypatch.setattr(catalogue, "MODELS", Registry("model", {"table": entry}))
    model, card = WithTable(2), ModelCard("table", {"num_classes": 2}, Preprocessing(), Taxonomy.numbered(2))
    save_weights(tmp_path / "w.safetensors", model.state_dict(), card)
    state = torch.random.get_rng_state()
    loaded, _ = load_weights(tmp_path / "w.safetensors")
    images = torch.rand(1, 3, 4, 4)
    assert torch.equal(loaded(images).logits, model(images).logits)
    assert not torch.equal(torch.random.get_rng_state(), state)  # the images were drawn
    torch.random.set_rng_state(state)
    load_weights(tmp_path / "w.safetensors")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_run_folder_stands_for_its_weights(tiny_run: Run):
    by_folder, card = load_weights(tiny_run.path)
    by_file, _ = load_weights(str(tiny_run.weights))
    state = by_file.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in by_folder.state_dict().items())
    assert card.taxonomy.names == ("nothing", "red", "green")
    assert read_card(tiny_run.weights) == card


def test_a_folder_without_weights_says_so(tmp_path):
    with pytest.raises(RunError, match=r"finished run folder; got '.*model\.safetensors', which is not there"):
        load_weights(tmp_path)


def test_a_missing_card_is_named(enet):
    enet.with_suffix(".json").unlink()
    with pytest.raises(RunError, match=r"must have their card beside them; got no '.*model\.json'"):
        load_weights(enet)


def test_a_newer_card_asks_for_an_upgrade(enet):
    edit_card(enet, format=FORMAT + 1)
    with pytest.raises(RunError, match=rf"format {FORMAT} or older; got {FORMAT + 1}. Upgrade delineate"):
        load_weights(enet)


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}", '{"format": "one"}', '{"format": 1, "model": 3}', "\x00\x01"],
)
def test_a_card_that_is_none_is_named(enet, text):
    enet.with_suffix(".json").write_text(text)
    with pytest.raises(RunError, match=r"model\.json must be a model card; got something else"):
        load_weights(enet)


@pytest.mark.parametrize("taxonomy", [{"names": []}, {"names": ["a", "a"]}, {"colours": []}, {"names": 3}, None])
def test_a_card_with_an_impossible_class_list_is_named(enet, taxonomy):
    edit_card(enet, taxonomy=taxonomy)
    with pytest.raises(RunError, match="must be a model card"):
        load_weights(enet)


@pytest.mark.parametrize(
    "model",
    [
        {"name": "ennet", "options": {"num_classes": 3}},
        {"name": 5, "options": {"num_classes": 3}},
        {"name": "enet", "options": {}},
        {"name": "enet", "options": {"num_classes": 3, "depth": 9}},
        {"name": "enet", "options": {"num_classes": "three"}},
    ],
)
def test_a_model_that_this_version_cannot_make_is_named(enet, model):
    edit_card(enet, model=model)
    with pytest.raises(RunError, match=r"model\.json must describe a model of this version"):
        load_weights(enet)


def test_a_card_whose_parts_contradict_each_other_is_refused(enet):
    edit_card(enet, taxonomy=Taxonomy.numbered(4).to_dict())
    with pytest.raises(RunError, match="a model of 3 classes and 3 image channels with 4 class names"):
        load_weights(enet)
    edit_card(enet, taxonomy=Taxonomy.numbered(3).to_dict(), preprocessing=Preprocessing.for_channels(1).to_dict())
    with pytest.raises(RunError, match="preprocessing for 1 channels"):
        load_weights(enet)


@pytest.mark.parametrize("kept", [0, 7, 200, -1])
def test_a_cut_off_file_is_named(enet, kept):
    enet.write_bytes(enet.read_bytes()[:kept])
    with pytest.raises(RunError, match=r"model\.safetensors must be a safetensors file; got a damaged one"):
        load_weights(enet)


class Loud:
    """Raises the moment somebody unpickles it."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def test_nothing_is_unpickled(enet):
    enet.write_bytes(pickle.dumps({"weights": Loud()}))
    with pytest.raises(RunError, match="must be a safetensors file"):
        load_weights(enet)
    torch.save({"weights": Loud()}, enet)
    with pytest.raises(RunError, match="must be a safetensors file"):
        load_weights(enet)


def test_weights_of_another_architecture_are_refused(enet):
    edit_card(enet, model={"name": "segnet", "options": {"num_classes": 3}})
    with pytest.raises(RunError, match=r"must hold the weights of segnet; got \d+ entries that do not fit, such as '"):
        load_weights(enet)


def test_weights_for_other_classes_are_refused(enet):
    edit_card(enet, model={"name": "enet", "options": {"num_classes": 4}}, taxonomy=Taxonomy.numbered(4).to_dict())
    with pytest.raises(RunError, match=r"got 2 entries that do not fit, such as 'classify\.(weight|bias)'"):
        load_weights(enet)


def test_a_write_that_fails_leaves_the_old_files(enet, monkeypatch):
    before = enet.read_bytes(), enet.with_suffix(".json").read_bytes()

    def full(tensors, path):
        Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("delineate.engine.weights.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(enet, {"weight": torch.ones(2)}, CARD)
    assert (enet.read_bytes(), enet.with_suffix(".json").read_bytes()) == before
    assert sorted(file.name for file in enet.parent.iterdir()) == ["model.json", "model.safetensors"]
