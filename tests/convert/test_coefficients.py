"""Coefficient tables: forms, order, and pickles that may hold nothing but arrays."""

import json
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from malicious import Malicious

from tests.refusals import one_line_error
from uniemo.cli import main
from uniemo.convert.coefficients import read_coefficients, write_coefficients
from uniemo.errors import UniEmoError
from uniemo.models.attributes import tables_from_file
from uniemo.taxonomy import MIKELS_8
from uniemo.vocabulary import Vocabulary

ROWS = {"dark forest": [0.125] * 8, "beach": [0.5, 0.5, 0, 0, 0, 0, 0, 0]}
SHARED = Path(__file__).parents[3] / "shared" / "data"  # beside the checkout, where there is one
PUBLISHED = SHARED / "emogen_attribute_coefficients.json"


def test_forms_of_json(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(ROWS))
    assert read_coefficients(path, MIKELS_8) == {"attributes": ROWS}
    assert read_coefficients(path, MIKELS_8, "scene") == {"scene": ROWS}
    path.write_text(json.dumps({"scene": ROWS, "object": {"cake": [1] * 8}}))
    assert read_coefficients(path, MIKELS_8) == {"scene": ROWS, "object": {"cake": [1.0] * 8}}
    assert read_coefficients(path, MIKELS_8, "object") == {"object": {"cake": [1.0] * 8}}


def test_order_of_emotions(tmp_path):
    path = tmp_path / "x.json"
    table = {"emotions": ["fear", "awe"], "coefficients": {"scene": {"beach": [0.1, 0.9]}}}
    path.write_text(json.dumps(table))
    assert read_coefficients(path, ("awe", "fear")) == {"scene": {"beach": [0.9, 0.1]}}
    with pytest.raises(UniEmoError, match="must be about awe, joy"):
        read_coefficients(path, ("awe", "joy"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize(
    "form",
    [np.asarray, lambda x: torch.tensor(x, dtype=torch.float64), list, tuple, lambda x: [np.float64(y) for y in x]],
)
def test_pickles_of_arrays(tmp_path, form, protocol):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps(OrderedDict((name, form(row)) for name, row in ROWS.items()), protocol=protocol))
    assert read_coefficients(path, MIKELS_8) == {"attributes": ROWS}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_malicious_pickle_is_refused_and_not_run(tmp_path, protocol):
    path = tmp_path / "x.pkl"
    path.write_bytes(pickle.dumps({"beach": Malicious(tmp_path / "made")}, protocol=protocol))
    with one_line_error(r"asks for posix.mkdir: nothing in it was run"):
        read_coefficients(path, MIKELS_8)
    assert not (tmp_path / "made").exists()


def test_malicious_tensor_inside_a_pickle(tmp_path):
    """torch reads a pickled tensor's numbers with a pickle of its own, which could ask for anything."""
    import io

    inner = io.BytesIO()
    torch.save(Malicious(tmp_path / "made"), inner, _use_new_zipfile_serialization=False)

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner.getvalue(),)

    (tmp_path / "x.pkl").write_bytes(pickle.dumps(Storage()))
    with pytest.raises(UniEmoError, match="nothing in it was run"):
        read_coefficients(tmp_path / "x.pkl", MIKELS_8)
    assert not (tmp_path / "made").exists()


def test_a_pickle_cannot_change_what_it_may_call(tmp_path):
    change = b"ctorch._utils\n_rebuild_tensor_v2\n(N(dS'_call'\nI1\nstb."  # BUILD with slots {"_call": 1}
    (tmp_path / "x.pkl").write_bytes(change)
    with pytest.raises(UniEmoError, match="no such map"):
        read_coefficients(tmp_path / "x.pkl", MIKELS_8)
    assert not hasattr(torch._utils._rebuild_tensor_v2, "_call")


@pytest.mark.parametrize(
    "call",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cnumpy\nload\n(S'x'\ntR.",
        b"ctorch\nload\n(S'x'\ntR.",
        b"cnumpy._core.multiarray\nfromfile\n(S'x'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
        b"cposix\nsystem\n(S'true'\ntR.",
    ],
)
def test_other_functions(tmp_path, call):
    (tmp_path / "x.pkl").write_bytes(call)
    with pytest.raises(UniEmoError, match="must hold nothing but tensors and plain values"):
        read_coefficients(tmp_path / "x.pkl", MIKELS_8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "neither"),
        ("[]", "no such map"),
        ("{}", "no such map"),
        ('{"beach": [1, 2]}', "'beach' of"),
        ('{"beach": [1, 2, 3, 4, 5, 6, 7, -1]}', "'beach' of"),
        ('{"beach": [1, 2, 3, 4, 5, 6, 7, NaN]}', "'beach' of"),
        ('{"beach": "x"}', "'beach' of"),
        ('{"scene": {"beach": 1}}', "'beach' of"),
        ('{"emotions": 5, "coefficients": {}}', "must be about"),
    ],
)
def test_bad_tables(tmp_path, content, message):
    (tmp_path / "x.json").write_text(content)
    with one_line_error(message):
        read_coefficients(tmp_path / "x.json", MIKELS_8)


def test_written_tables_are_what_the_model_reads(tmp_path):
    vocabulary = Vocabulary(MIKELS_8, ("beach",), ("cake",))
    write_coefficients(tmp_path / "a.json", {"scene": ROWS, "object": {"cake": [1.0] * 8}})
    scenes, objects = tables_from_file(tmp_path / "a.json", vocabulary)
    assert scenes.tolist() == [ROWS["beach"]]
    assert objects.tolist() == [[1.0] * 8]
    write_coefficients(tmp_path / "b.json", {"attributes": ROWS})
    assert tables_from_file(tmp_path / "b.json", vocabulary)[0].tolist() == [ROWS["beach"]]


def test_command(tmp_path, capsys):
    source, output = tmp_path / "x.pkl", tmp_path / "x.json"
    source.write_bytes(pickle.dumps({name: np.asarray(row) for name, row in ROWS.items()}))
    assert main(["convert", "--from", "coefficients", str(source), "--output", str(output)]) == 0
    assert json.loads(output.read_text()) == ROWS
    assert "wrote 2 attributes" in capsys.readouterr().out


@pytest.mark.skipif(not PUBLISHED.is_file(), reason="the published table is not here")
def test_published_table(tmp_path):
    tables = read_coefficients(PUBLISHED, MIKELS_8)
    assert {kind: len(rows) for kind, rows in tables.items()} == {"scene": 254, "object": 409}
    assert all(abs(sum(row) - 1) < 1e-3 for rows in tables.values() for row in rows.values())
    assert max(range(8), key=tables["scene"]["amusement_park"].__getitem__) == MIKELS_8.index("amusement")
    assert main(["convert", "--from", "coefficients", str(PUBLISHED), "--output", str(tmp_path / "x.json")]) == 0
    vocabulary = Vocabulary(MIKELS_8, ("airfield",), ())
    assert tables_from_file(tmp_path / "x.json", vocabulary)[0].tolist() == [pytest.approx(tables["scene"]["airfield"])]
