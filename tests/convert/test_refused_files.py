"""Files of the released form that are damaged, odd or hostile: one line, and nothing in them is run or believed."""

import pytest
import torch
from convert.released_files import classifier_state, load_released, released_state, save, whole_file
from malicious import Malicious

from tests.refusals import one_line_error
from uniemo.convert.released import read_released
from uniemo.errors import UniEmoError


@pytest.fixture
def file(tmp_path):
    return save(tmp_path / "best.pth", whole_file(released_state(), classifier_state()))


def broken(**changes):
    state = released_state()
    for name, value in changes.items():
        if value is None:
            del state[name]
        else:
            state[name] = value
    return state


NORM = "visual.ln_post.bias"
BLOCKS = "visual.transformer.resblocks."
QUERY = "visual.visual_query_scene.weight"
LATER = "visual.transformer.visual_query_interact.0.query_decoder.1.norm1.weight"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": broken(**{NORM: None})}, r"lacks 1 tensors, first 'visual.ln_post.bias'"),
        ({"model": broken(**{NORM: torch.ones(63)})}, r"visual.ln_post.bias .* must be \(64,\)"),
        ({"model": broken(**{NORM: torch.full((64,), torch.nan)})}, "finite"),
        ({"model": broken(**{LATER: torch.ones(64)})}, "two interactive blocks of one layer"),
        ({"model": broken(**{"visual.positional_embedding": torch.ones(16, 64)})}, "15 patches"),
        ({"model": broken(**{"visual.conv1.weight": torch.ones(60, 3, 8, 8)})}, "width 60"),
        ({"model": broken(**{"visual.conv1.weight": torch.ones(64)})}, "4 dimensions"),
        ({"model": released_state(layers=2)}, "at least 3 layers"),
        ({"model": released_state(), "Emo_classifier": {"fc0.weight": torch.ones(4, 64)}}, r"first 'fc1.weight'"),
        ({"model": released_state(), "Emo_classifier": classifier_state(width=32)}, r"fc0.weight .* must be"),
        ({"model": [1, 2]}, "map names to tensors"),
        ({"model": {}}, "map names to tensors"),
        ({"model": broken(extra=torch.ones(2).to_sparse())}, "map names to tensors"),
        ({"model": broken(extra=torch.ones(2, device="meta"))}, "map names to tensors"),
        ({"model": broken(extra=torch.ones(2, dtype=torch.complex64))}, "map names to tensors"),
        ({"model": broken(**{QUERY: torch.ones(0, 64)})}, "dimensions from 1"),
        ({"model": broken(**{QUERY: torch.ones(5, 64)})}, r"visual_query_object.weight .* must be \(5, 64\)"),
        ({"model": broken(**{"visual.positional_embedding": torch.tensor(5.0)})}, "2 dimensions"),
        ({"weights": {}}, "must have the key model"),
        ([1, 2], "must have the key model"),
    ],
)
def test_refused(tmp_path, content, message):
    with one_line_error(message):
        load_released(save(tmp_path / "x.pth", content))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("visual.conv1.weight", torch.ones(640000, 3, 1, 1)),
        ("visual.conv1.weight", torch.ones(64, 1, 10**4, 1)),
        ("visual.conv1.weight", torch.ones(1).expand(10**6, 10**6)),
        ("visual.visual_query_scene.weight", torch.ones(10**6, 1)),
        ("fc0.weight", torch.ones(10**6, 1)),
    ],
)
def test_nothing_larger_than_the_file_is_built(tmp_path, name, value):
    """A small file could name sizes that no memory holds."""
    content = whole_file(released_state(), classifier_state())
    content["Emo_classifier" if name.startswith("fc") else "model"][name] = value
    with one_line_error(r"to fit the file's other tensors|map names to tensors"):
        load_released(save(tmp_path / "x.pth", content))


@pytest.mark.parametrize("layer", ["998", "99999999999999", "１"])
def test_numbers_that_are_no_layers(tmp_path, file, layer):
    state = released_state() | {f"visual.transformer.resblocks.{layer}.ln_1.weight": torch.ones(64)}
    path = save(tmp_path / "x.pth", whole_file(state, classifier_state()))
    assert "1 tensors that are not used" in read_released(path).notes()[0]
    model = load_released(path)
    assert len(model.encoder.visual.resblocks) == 3


def test_a_layer_that_is_missing(tmp_path):
    state = {name: value for name, value in released_state().items() if not name.startswith(f"{BLOCKS}1.")}
    with pytest.raises(
        UniEmoError, match=r"lacks 12 tensors, first 'visual.transformer.resblocks.1.attn.in_proj_bias'"
    ):
        load_released(save(tmp_path / "x.pth", {"model": state}))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["model", "config", "optimizer"])
def test_malicious_pickle_is_refused_and_not_run(tmp_path, where, zipped):
    content = whole_file(released_state(), classifier_state()) | {where: Malicious(tmp_path / "made")}
    path = save(tmp_path / "x.pth", content, _use_new_zipfile_serialization=zipped)
    with one_line_error(r"asks for posix.mkdir: nothing in it was run"):
        load_released(path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk", b"\x80\x05K\x01.", None])
def test_damaged(tmp_path, file, content):
    (tmp_path / "x.pth").write_bytes(file.read_bytes()[:-5000] if content is None else content)
    with pytest.raises(UniEmoError, match="released checkpoint must"):
        load_released(tmp_path / "x.pth")


def test_no_file(tmp_path):
    with pytest.raises(UniEmoError, match="does not exist"):
        load_released(tmp_path / "x.pth")
    with pytest.raises(UniEmoError, match=r"VIT_query.pth does not exist"):
        load_released(tmp_path)
