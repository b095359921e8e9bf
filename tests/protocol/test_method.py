"""The protocol itself: settings, hiding, weights files and families, on a method of three lines."""

from dataclasses import dataclass

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from anymri.methods import Method, MethodConfig, MethodInfo, PerSubsetModels, Preset, SubsetNotTrained, create, load
from anymri.protocol.facts import TrainingFacts
from anymri.protocol.method import zero_absent
from anymri.protocol.noise import Noise
from anymri.protocol.request import EVERYTHING, Request
from anymri.protocol.weights_file import read_header
from anymri.types import GLIOMA, DataSpec, Head, Prediction, Stage, UserError, Where


@dataclass(frozen=True, kw_only=True)
class ToyConfig(MethodConfig):
    """Settings of the toy."""

    gain: float = 1.0
    sizes: tuple[int, ...] = (1, 2)


class Toy(Method):
    """The sum of the available channels times a number."""

    name = "toy"
    Config = ToyConfig
    info = MethodInfo(title="Toy", family="baseline", task="segmentation", year=2026, reference="none")
    presets = {preset: Preset((Stage("train", 1, 1, None, "all"),)) for preset in ("paper", "tiny")}
    head = Head("softmax", ("background", "edema"))

    def __init__(self, config, spec=GLIOMA):
        super().__init__(config, spec)
        self.weight = nn.Parameter(torch.tensor(float(config.gain)))
        self.register_buffer("table", torch.zeros(2))

    def encode(self, image, available, where=None):
        return {"image": zero_absent(image, available), "where": where}

    def decode(self, features, available, request=EVERYTHING):
        total = zero_absent(features["image"], available).sum(1, keepdim=True) * self.weight
        if features["where"] is not None:
            total = total + features["where"].origin[:, :1, None, None, None]
        if request.noise is not None:
            total = total + request.noise.normal("x", total.shape[1], total.shape[2:])
        image = torch.full_like(features["image"], torch.nan)
        return Prediction(torch.cat([-total, total], 1), image, torch.zeros_like(available))


def toy(gain=1.0, spec=GLIOMA):
    return Toy(ToyConfig(gain=gain), spec)


# ------------------------------------------------------------------------------------------------------ settings


def test_settings_from_plain_values():
    config = ToyConfig.build({"gain": 2, "sizes": [3, 4]})
    assert config == ToyConfig(gain=2.0, sizes=(3, 4))
    with pytest.raises(UserError, match=r"method\.config\.gian; did you mean 'gain'"):
        ToyConfig.build({"gian": 1})
    with pytest.raises(UserError, match=r"method\.config\.gain = 'much'"):
        ToyConfig.build({"gain": "much"})
    with pytest.raises(UserError, match=r"method\.config\.preset = 'huge'"):
        ToyConfig.build({"preset": "huge"})


def test_settings_are_read_by_their_old_names_too():
    @dataclass(frozen=True, kw_only=True)
    class Renamed(ToyConfig):
        renamed = {"strength": "gain"}

    assert Renamed.build({"strength": 2}) == Renamed.build({"gain": 2}) == Renamed(gain=2.0)
    assert Renamed.build({"strength": 3, "gain": 1}).gain == 3.0, "beside the preset's own value"
    with pytest.raises(UserError, match=r"method\.config\.gain = 'much'"):
        Renamed.build({"strength": "much"})
    with pytest.raises(UserError, match=r"unknown key method\.config\.strength"):
        ToyConfig.build({"strength": 2})


@pytest.mark.parametrize("name", ["mm_gan", "smu_net"])
def test_weights_with_an_old_name_of_a_setting_open(name, tmp_path):
    method = create(name, preset="tiny", discriminator_widths=(4,))
    path = tmp_path / "new.safetensors"
    method.save(path)
    with safe_open(path, "pt") as file:
        header, state = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    assert "discriminator_widths" in header["config"]
    header["config"] = header["config"].replace("discriminator_widths", "judge_widths")
    del header["sha256"]
    header["format"] = "anymri-1"  # of a version before there were checksums
    save_file(state, tmp_path / "old.safetensors", header)
    again = load(tmp_path / "old.safetensors")
    assert again.config == method.config
    assert create(name, preset="tiny", judge_widths=[4]).config == method.config
    torch.testing.assert_close(again.state_dict(), method.state_dict(), rtol=0, atol=0, equal_nan=True)


def test_unknown_method_and_preset_are_refused_in_one_line():
    for make, words in (
        (lambda: create("unett"), "unknown method 'unett'; known: "),
        (lambda: create("unet", preset="big"), "unknown preset 'big' of unet; known: paper, tiny"),
    ):
        with pytest.raises(UserError) as error:
            make()
        assert str(error.value).startswith(words)
        assert "\n" not in str(error.value)


def test_show_hides_whatever_absent_channels_hold():
    image = torch.tensor([[[1.0], [torch.nan]], [[torch.inf], [2.0]]])
    assert zero_absent(image, torch.tensor([[True, False], [False, True]])).tolist() == [[[1.0], [0.0]], [[0.0], [2.0]]]


# ------------------------------------------------------------------------------------------------------- weights


def test_weights_file_keeps_name_config_specification_and_extra(tmp_path):
    spec = DataSpec(("flair", "t1"), labels={"edema": 2}, regions={"whole_tumor": ("edema",)})
    method = toy(3.0, spec)
    method.weight.data.fill_(7.0)
    method.save(tmp_path / "toy.safetensors", TrainingFacts(spacing_mm=(2.0, 2.0, 2.0)))
    header = read_header(tmp_path / "toy.safetensors")
    assert header.name == "toy"
    assert header.facts == TrainingFacts(spacing_mm=(2.0, 2.0, 2.0))
    again = Toy.load(tmp_path / "toy.safetensors", spec)
    assert again.spec == spec
    assert again.config == ToyConfig(gain=3.0)
    assert again.weight.item() == 7.0
    assert not again.training


def test_saving_twice_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        toy().save(tmp_path / name, TrainingFacts(seed=1, fold=2))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_tables_of_any_size_come_back(tmp_path):
    method = toy()
    method.table = torch.arange(5.0)
    method.save(tmp_path / "toy.safetensors")
    assert Toy.load(tmp_path / "toy.safetensors").table.tolist() == [0, 1, 2, 3, 4]


def test_wrong_weights_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "x.safetensors"
    cases = []
    cases.append((tmp_path / "none.safetensors", "not a readable weights file"))
    (tmp_path / "text.safetensors").write_text("not a weights file at all")
    cases.append((tmp_path / "text.safetensors", "not a readable weights file"))
    save_file({"weight": torch.ones(1)}, tmp_path / "foreign.safetensors")
    cases.append((tmp_path / "foreign.safetensors", "without anymri's header"))
    create("unet", preset="tiny").save(tmp_path / "unet.safetensors")
    cases.append((tmp_path / "unet.safetensors", "holds weights of 'unet', not 'toy'"))
    for path, words in cases:
        with pytest.raises(UserError) as error:
            Toy.load(path)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
        assert str(path) in str(error.value)


def test_another_order_of_modalities_is_refused(tmp_path):
    toy().save(tmp_path / "toy.safetensors")
    with pytest.raises(UserError, match="trained on t1, t1c, t2, flair, asked for flair, t1, t1c, t2"):
        Toy.load(tmp_path / "toy.safetensors", DataSpec(("flair", "t1", "t1c", "t2")))


def test_weights_that_do_not_fit_are_refused(tmp_path):
    method = toy()
    del method.weight
    method.save(tmp_path / "toy.safetensors")
    with pytest.raises(UserError, match="weights do not fit toy"):
        Toy.load(tmp_path / "toy.safetensors")


# -------------------------------------------------------------------------------------------------------- family


def test_a_family_runs_each_row_through_its_member():
    family = PerSubsetModels({"t1": toy(1.0), "flair + t1c": toy(10.0)})
    assert family.subsets == ("t1", "t1c+flair")
    image = torch.ones(3, 4, 2, 2, 2)
    image[0, 1:] = torch.nan
    available = torch.stack([GLIOMA.available(subset) for subset in (("t1",), ("t1c", "flair"), ("t1",))])
    where = Where(torch.tensor([[5, 0, 0], [6, 0, 0], [7, 0, 0]]), torch.ones(3, 3), torch.zeros(3, 3).bool())
    prediction = family.predict(image, available, where)
    assert prediction.logits[:, 1, 0, 0, 0].tolist() == [6.0, 26.0, 8.0]
    assert prediction.class_logits is None
    assert prediction.synthesised.shape == (3, 4)
    with_noise = Request(noise=Noise(range(3), where.origin))
    alone = toy(10.0).predict(image[1:2], available[1:2], None, Request(noise=Noise([1], where.origin[1:2])))
    together = family.predict(image, available, None, with_noise)
    torch.testing.assert_close(together.logits[1], alone.logits[0])


def test_a_family_names_the_subset_it_has_no_network_for():
    family = PerSubsetModels({"t1": toy(), "t1c+flair": toy()})
    with pytest.raises(SubsetNotTrained, match=r"toy has no network for t2; trained subsets: t1, t1c\+flair"):
        family.predict(torch.ones(1, 4, 2, 2, 2), GLIOMA.available(("t2",))[None])


def test_a_family_needs_members_of_one_kind():
    with pytest.raises(ValueError, match="at least one"):
        PerSubsetModels({})
    with pytest.raises(ValueError, match="share"):
        PerSubsetModels({"t1": toy(), "t2": create("unet", preset="tiny")})
    with pytest.raises(ValueError, match="share"):
        PerSubsetModels({"t1": toy(), "flair": toy(spec=DataSpec(("flair", "t1")))})
    with pytest.raises(ValueError, match="two models serve t1"):
        PerSubsetModels({"t1": [toy(), toy()]})


def synthesiser(subset, target, value):
    """ResViT that makes `value` everywhere."""
    method = create("resvit", preset="tiny", subset=subset, target=target, size=(16, 16)).eval()

    def answer(sources, available):
        image = torch.full((len(sources), 4, *sources.shape[2:]), torch.nan)
        made = torch.zeros(len(sources), 4, dtype=torch.bool)
        image[:, GLIOMA.index(target)], made[:, GLIOMA.index(target)] = value, True
        return Prediction(image=image, synthesised=made)

    method.predict_subset = answer
    return method


def test_members_of_one_subset_make_their_sequences_together():
    members = [synthesiser("t1", "t2", 2.0), synthesiser("t1", "flair", 3.0), synthesiser("t1+t2", "flair", 4.0)]
    family = PerSubsetModels.of(members)
    assert family.subsets == ("t1", "t1+t2")
    assert family.every == members
    image = torch.full((2, 4, 1, 16, 16), torch.nan)
    available = torch.stack([GLIOMA.available(subset) for subset in (("t1",), ("t1", "t2"))])
    image[available] = 1.0
    found = family.predict(image, available)
    marked = [[GLIOMA.modalities[i] for i in row.nonzero().flatten()] for row in found.synthesised]
    assert marked == [["t2", "flair"], ["flair"]]
    t2, flair = GLIOMA.index("t2"), GLIOMA.index("flair")
    assert found.image[0, t2].unique().tolist() == [2.0]
    assert found.image[:, flair].flatten(1).unique(dim=1).tolist() == [[3.0], [4.0]]
    assert found.image[1, t2].isnan().all()
    with pytest.raises(ValueError, match="two models serve t1 to t2"):
        PerSubsetModels.of([*members, synthesiser("t1", "t2", 5.0)])
