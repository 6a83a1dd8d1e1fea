"""Networks that ship, their totals, and networks of one's own as YAML and as a table."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsim.errors import InputError
from archsim.network import Layer, Network, load_network, network_names

# millions of multiply-adds of one image, millions of weights, to the last digit written
TOTALS = {
    "alexnet": (724.407, 60.955),
    "googlenet": (1582.672, 6.990),
    "lenet5": (2.293, 0.4305),
    "resnet20": (40.551, 0.2683),
    "resnet50": (3857.973, 25.503),
    "resnet56": (125.486, 0.8489),
    "squeezenet": (861.340, 1.2444),
    "vgg16": (15470.264, 138.344),
}


def test_what_ships() -> None:
    assert network_names() == sorted(TOTALS)


@pytest.mark.parametrize("name", TOTALS)
def test_totals(name: str) -> None:
    network = load_network(name)
    macs, weights = TOTALS[name]
    assert network.macs / 1e6 == pytest.approx(macs, abs=5.1e-4)
    assert network.weights / 1e6 == pytest.approx(weights, abs=5.1e-4 if weights > 5 else 5.1e-5)


@pytest.mark.parametrize("name", TOTALS)
def test_shapes_follow_each_other(name: str) -> None:
    """Names are unique, every layer knows its network, a classifier's fc layers chain."""
    network = load_network(name)
    names = [layer.name for layer in network]
    assert len(set(names)) == len(names) == len(network)
    assert {layer.network for layer in network} == {name}
    assert network.source
    for layer in network:
        assert network[layer.name] is layer
        assert layer.macs == layer.weights * layer.P * layer.Q
        assert layer.flop == 2.0 * layer.macs
    full = [layer for layer in network if layer.type == "fc"]
    for before, after in pairwise(full):
        if name != "googlenet":  # its classifiers do not follow each other
            assert after.C == before.K


@pytest.mark.parametrize("name", TOTALS)
def test_maps_name_real_layers(name: str) -> None:
    network = load_network(name)
    for key, entry in network.sparsities.items():
        assert entry.name == key
        assert entry.layers, key
        assert set(entry.layers) <= {layer.name for layer in network}, key
        assert all(0.0 <= value <= 1.0 for value in entry.layers.values()), key
        assert len(entry.source) > 20, f"{key} has no source"
    assert network.default_sparsity is None or network.default_sparsity in network.sparsities


def test_alexnet_is_grouped_as_in_caffe() -> None:
    network = load_network("alexnet")
    conv2 = network["conv2"]
    assert (conv2.groups, conv2.weight_shape, conv2.P, conv2.Q) == (2, (256, 48, 5, 5), 27, 27)
    assert network["conv1"].P == 55
    assert network["fc6"].weight_shape == (4096, 9216, 1, 1)
    assert network["conv3"].input_bytes == 4 * 256 * 13 * 13
    assert network["conv3"].dense_bytes == 3_538_944
    assert network["conv3"].sparse_bytes(0.5) == 3_538_944 + 4 * 385


@pytest.mark.parametrize(
    ("found", "near"), [("alexnt", "alexnet"), ("resnet65", "resnet56"), ("VGG16", "vgg16")]
)
def test_an_unknown_network_gets_the_nearest(found: str, near: str) -> None:
    with pytest.raises(InputError) as caught:
        load_network(found)
    error = str(caught.value)
    assert f"no such network, and no such file; found {found!r}" in error
    if found != "VGG16":  # letters of the other case are no near match
        assert f"did you mean {near!r}?" in error


def test_an_unknown_layer_gets_the_nearest() -> None:
    with pytest.raises(InputError, match=r"network alexnet: .*'convv3'.*did you mean 'conv3'\?"):
        load_network("alexnet")["convv3"]
    with pytest.raises(InputError, match=r"allowed: .*, \.\.\."):
        load_network("googlenet")["nothing like it"]


# --- shapes -----------------------------------------------------------------------------------


def test_output_sizes() -> None:
    layer = Layer("x", C=4, K=6, H=9, W=7, R=3, S=3, stride=(2, 1), pad=(1, 0), dilation=(1, 2))
    assert (layer.P, layer.Q) == (5, 3)
    assert layer.macs == 4 * 6 * 9 * 15
    assert Layer("fc", C=10, K=3, type="fc").macs == 30


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("{name: a, C: 3, K: 4, groups: 2}", "groups must divide C (3) and K (4); found 2"),
        ("{name: a, C: 3, K: 4, H: 2, W: 9, R: 3, S: 3}", "does not fit into the padded input 2x9"),
        ("{name: a, C: 3, K: 4, H: 4, W: 4, R: 3, S: 3, dilation: 2}", "does not fit"),
        ("{name: a, C: 3, K: 4, H: 4, type: fc}", "a fully connected layer has C and K only"),
    ],
)
def test_shapes_that_cannot_be(tmp_path: Path, text: str, fragment: str) -> None:
    with pytest.raises(InputError) as caught:
        own(tmp_path, f"name: net\nlayers:\n  - {text}\n")
    assert str(caught.value).startswith(f"{tmp_path / 'net.yaml'}:3: layers[0]: layer a: ")
    assert fragment in str(caught.value)


# --- YAML -------------------------------------------------------------------------------------

GOOD = """\
format: 1
name: mine
description: Two layers.
layers:
  - {name: c1, C: 3, H: 8, W: 8, K: 4, R: 3, S: 3, stride: [2, 1], pad: 1}
  - {name: f1, type: fc, C: 96, K: 10}
sparsities:
  half:
    layers: {c1: 0.5, f1: 1}
    source: lab
    domain: winograd
default_sparsity: half
source: lab
sources:
  lab: {kind: assumed, text: A text.}
"""


def own(folder: Path, text: str) -> Network:
    path = folder / "net.yaml"
    path.write_text(text, encoding="utf-8")
    return load_network(path)


def test_a_network_of_one_s_own(tmp_path: Path) -> None:
    network = own(tmp_path, GOOD)
    assert [layer.name for layer in network] == ["c1", "f1"]
    assert (network["c1"].stride, network["c1"].pad) == ((2, 1), (1, 1))
    assert (network["c1"].P, network["c1"].Q) == (4, 8)
    assert network.source == "A text."
    half = network.sparsities["half"]
    assert (half.layers["f1"], half.domain, half.source) == (1.0, "winograd", "A text.")
    assert load_network(str(tmp_path / "net.yaml")) == network


@pytest.mark.parametrize(
    ("old", "new", "line", "fragments"),
    [
        ("layers:\n  - {name: c1", "layer:\n  - {name: c1", 4,
         ["unknown key 'layer'", "did you mean 'layers'?"]),
        ("pad: 1", "padding: 1", 5, ["layers[0]", "unknown key 'padding'", "'pad'?"]),
        ("C: 3,", "", 5, ["layers[0]", "key 'C' is missing"]),
        ("C: 3,", "C: 0,", 5, ["layers[0].C", "greater than or equal to 1", "found 0"]),
        ("C: 3,", "C: 3.0,", 5, ["layers[0].C", "a whole number"]),
        ("C: 3,", "C: true,", 5, ["layers[0].C", "a whole number"]),
        ("C: 3,", "C: 99999999999,", 5, ["layers[0].C", "less than or equal"]),
        ("C: 3,", "C: 3, C: 4,", 5, ["duplicate key"]),
        ("stride: [2, 1]", "stride: [2]", 5, ["layers[0].stride", "entry 1 is missing"]),
        ("stride: [2, 1]", "stride: [2, 1, 1]", 5, ["layers[0].stride", "at most 2"]),
        ("stride: [2, 1]", "stride: 0", 5, ["layers[0].stride[0]", "found 0"]),
        ("pad: 1", "pad: -1", 5, ["layers[0].pad[0]", "found -1"]),
        ("type: fc", "type: full", 6, ["layers[1].type", "'full'", "'conv' or 'fc'"]),
        ("name: f1", "name: c1", 6, ["layers[1].name", "layer name is taken", "'c1'"]),
        ("f1: 1}", "f2: 1}", 9, ["sparsities.half", "unknown layer", "'f2'", "'f1'?"]),
        ("c1: 0.5", "c1: 1.5", 9, ["sparsities.half.layers.c1", "found 1.5"]),
        ("c1: 0.5", "c1: -0.1", 9, ["sparsities.half.layers.c1", "found -0.1"]),
        ("c1: 0.5", "c1: .nan", 9, ["sparsities.half.layers.c1", "finite", "nan"]),
        ("c1: 0.5", "c1: '0.5'", 9, ["sparsities.half.layers.c1", "a number"]),
        ("domain: winograd", "domain: freq", 11, ["sparsities.half.domain", "'freq'"]),
        ("_sparsity: half", "_sparsity: hlaf", 12, ["no such map", "'hlaf'", "allowed: half"]),
        ("kind: assumed", "kind: guess", 15, ["sources.lab.kind", "'guess'"]),
        ("format: 1", "format: 3", 1, ["format", "found 3"]),
        ("name: mine", "name: !!str mine", 2, ["tags are not allowed"]),
    ],
)  # fmt: skip
def test_bad_networks(tmp_path: Path, old: str, new: str, line: int, fragments: list[str]) -> None:
    assert GOOD.count(old) == 1
    with pytest.raises(InputError) as caught:
        own(tmp_path, GOOD.replace(old, new))
    error = str(caught.value)
    assert error.startswith(f"{tmp_path / 'net.yaml'}:{line}: "), error
    assert "\n" not in error
    for fragment in fragments:
        assert fragment in error


@pytest.mark.parametrize("text", ["", "- a\n", "mine\n", "name: x\nlayers: []\n", "name: x\n"])
def test_files_that_are_no_network(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"net\.yaml:\d: "):
        own(tmp_path, text)


def test_not_a_file(tmp_path: Path) -> None:
    for wrong in (tmp_path / "none.yaml", tmp_path / "none.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            load_network(wrong)
    with pytest.raises(InputError, match="no such network"):
        load_network("x" * 5000)


# --- tables -----------------------------------------------------------------------------------

TABLE = """\
name,type,C,H,W,K,R,S,stride,pad,dilation,groups
c1,conv,3,9,9,4,3,3,2x1,1,1,1
c2,,4,5,9,4,3,1,1,1x0,,2
f1,fc,180,,,10,,,,,,
"""


def table(folder: Path, text: str, *, encoding: str = "utf-8") -> Network:
    path = folder / "mine.csv"
    path.write_text(text, encoding=encoding)
    return load_network(path)


def test_a_table_of_layers(tmp_path: Path) -> None:
    network = table(tmp_path, TABLE)
    assert network.name == "mine"
    c1, c2, f1 = network
    assert (c1.stride, c1.pad, c1.P, c1.Q) == ((2, 1), (1, 1), 5, 9)
    assert (c2.type, c2.groups, c2.pad, c2.P, c2.Q) == ("conv", 2, (1, 0), 5, 9)
    assert (f1.type, f1.C, f1.K, f1.macs) == ("fc", 180, 10, 1800)
    assert c1.network == "mine"


def test_columns_in_any_order_spaces_and_a_byte_order_mark(tmp_path: Path) -> None:
    network = table(tmp_path, "K, name , C\r\n4, a , 3\r\n\r\n5,b,4\r\n", encoding="utf-8-sig")
    assert [(layer.name, layer.C, layer.K) for layer in network] == [("a", 3, 4), ("b", 4, 5)]


@pytest.mark.parametrize(
    ("text", "line", "fragments"),
    [
        ("name,C,K,strid\na,3,4,1\n", 1, ["unknown column 'strid'", "did you mean 'stride'?"]),
        ("name,C,C,K\na,3,3,4\n", 1, ["a column stands twice"]),
        ("name,C,K\na,3,4,5\n", 2, ["more than 3 columns"]),
        ("name,C,K\na,3,4\nb,3\n", 3, ["layers[1]", "key 'K' is missing"]),
        ("name,C,K\na,3,4\nb,3,many\n", 3, ["layers[1].K", "'many'", "a whole number"]),
        ("name,C,K\na,3,4.0\n", 2, ["layers[0].K", "'4.0'", "a whole number"]),
        ("name,C,K\na,3,-4\n", 2, ["layers[0].K", "found -4"]),
        ("name,C,K,stride\na,3,4,0x1\n", 2, ["layers[0].stride[0]", "found 0"]),
        ("name,C,K,stride\na,3,4,1x2x3\n", 2, ["layers[0].stride", "'1x2x3'"]),
        ("name,C,K,type\na,3,4,dense\n", 2, ["layers[0].type", "'dense'"]),
        ("name,C,K\na,3,4\na,3,4\n", 3, ["layers[1].name", "layer name is taken"]),
        ("name,C,K,groups\na,3,4,2\n", 2, ["layers[0]", "groups must divide"]),
        ("name,C,K\n,3,4\n", 2, ["layers[0]", "key 'name' is missing"]),
        ("name,C,K\n", 1, ["layers", "at least 1"]),
        ("", 1, ["layers", "at least 1"]),
        (f"name,C,K\n{'a' * 200_000},3,4\n", 2, ["not a CSV table"]),
    ],
)
def test_bad_tables(tmp_path: Path, text: str, line: int, fragments: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        table(tmp_path, text)
    error = str(caught.value)
    assert error.startswith(f"{tmp_path / 'mine.csv'}:{line}: "), error
    assert "\n" not in error
    for fragment in fragments:
        assert fragment in error


def test_a_table_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_bytes(b"name,C,K\n\xff,1,1\n")
    with pytest.raises(InputError, match=r"x\.csv:2: is not UTF-8 text"):
        load_network(tmp_path / "x.csv")


@pytest.mark.parametrize("cell", ["1_0", "٣", "3x", "9" * 5000, "1x1_0"])
def test_numbers_of_a_table_are_plain_digits(tmp_path: Path, cell: str) -> None:
    with pytest.raises(InputError, match=r"mine\.csv:2: layers\[0\]\.stride"):
        table(tmp_path, f"name,C,K,stride\na,3,4,{cell}\n")


def test_a_huge_table_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="larger than 512 KiB"):
        table(tmp_path, "name,C,K\n" + "a,3,4\n" * 100_000)


def test_the_name_of_a_table_is_made_one_of_a_network(tmp_path: Path) -> None:
    for stem, name in [("_my (net)", "my _net_"), ("é", "network")]:
        path = tmp_path / f"{stem}.csv"
        path.write_text(TABLE, encoding="utf-8")
        assert load_network(path).name == name


# --- limits -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "fragment"),
    [
        ({"C": 0}, "C: must lie in 1..1048576; found 0"),
        ({"K": 2**20 + 1}, "K: must lie in"),
        ({"C": 3.0}, "C: must be a whole number"),
        ({"C": True}, "C: must be a whole number"),
        ({"H": 2**16 + 1}, "H: must lie in 1..65536"),
        ({"R": 1025}, "R: must lie in 1..1024"),
        ({"groups": 0}, "groups: must lie in"),
        ({"groups": 2}, "groups must divide"),
        ({"stride": 0}, "stride: must lie in"),
        ({"stride": (1, 0)}, "stride: must lie in"),
        ({"stride": (1, 1, 1)}, "stride: must be one whole number or two"),
        ({"dilation": "2"}, "dilation: must be a whole number"),
        ({"pad": -1}, "pad: must lie in 0.."),
        ({"pad": 4}, "pad: must not exceed the kernel's span (3, 3); found (4, 4)"),
        ({"R": 10}, "does not fit into the padded input"),
        ({"type": "full"}, "type: unknown; found 'full'"),
        ({"type": "fc"}, "has C and K only"),
        ({"name": ""}, "layer name: must be text"),
        ({"name": "a\nb"}, "layer name: must be text without control characters"),
        ({"name": "a" * 201}, "layer name: must not exceed 200"),
        ({"name": 3}, "layer name: must be text"),
    ],
)
def test_layers_that_cannot_be(changed: dict[str, Any], fragment: str) -> None:
    fields: dict[str, Any] = {"name": "x", "C": 3, "K": 4, "H": 8, "W": 8, "R": 3, "S": 3}
    with pytest.raises(InputError) as caught:
        Layer(**(fields | changed))
    assert fragment in str(caught.value)
    assert "\n" not in str(caught.value)


def test_one_number_stands_for_both_directions() -> None:
    both: dict[str, Any] = {"stride": 2, "pad": [1, 1], "dilation": np.int64(1), "C": np.int64(3)}
    layer = Layer("x", **({"K": 4, "H": 8, "W": 8, "R": 3, "S": 3} | both))
    assert (layer.stride, layer.pad, layer.dilation, layer.P) == ((2, 2), (1, 1), (1, 1), 4)
    assert type(layer.C) is int
    assert hash(layer)


@pytest.mark.parametrize("name", ["", "'-x'", "a/b", '"a\\nb"', "a" * 201])
def test_names_of_networks(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"net\.yaml:2: name"):
        own(tmp_path, GOOD.replace("name: mine", f"name: {name}"))


def test_a_name_or_a_path_is_due() -> None:
    wrong: Any
    for wrong in (None, 3, ["alexnet"]):
        with pytest.raises(InputError, match="network: wrong type"):
            load_network(wrong)


def test_a_network_contains_its_layers_and_their_names() -> None:
    network = load_network("alexnet")
    assert "conv3" in network
    assert network["conv3"] in network
    assert "conv9" not in network
