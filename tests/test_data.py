"""Claims about hypernas.data and hypernas.data.catalogue: every file here is written by the test itself."""

import hashlib
import io
import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from hypernas import cli, data
from hypernas.data import catalogue, labelled
from hypernas.errors import UserError


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Empty $HYPERNAS_DATA and user cache."""
    places = {"data": tmp_path / "data", "cache": tmp_path / "xdg" / "hypernas"}
    for place in places.values():
        place.mkdir(parents=True)
    monkeypatch.setenv("HYPERNAS_DATA", str(places["data"]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    return places


def put(folder, name, content, monkeypatch, **known):
    """Write `content` as the file of source `name`, noting what is `known` of it (default: its sha256)."""
    entry = catalogue.get_source(name)
    known = known or {"sha256": hashlib.sha256(content).hexdigest()}
    others = tuple(source for source in catalogue.sources() if source.name != name)
    changed = (*others, replace(entry, **known))
    monkeypatch.setattr(catalogue, "sources", lambda: changed)
    path = folder / entry.files
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class Architecture:
    """A record as analog-nasbench pickles it."""


Architecture.__module__ = "analognasbench.data"


def analog_bytes(monkeypatch, n=15625, accuracy=50.0):
    """Pickle `n` records under the module name of analog-nasbench, which is not imported for it."""
    module = type(sys)("analognasbench.data")
    module.Architecture = Architecture
    monkeypatch.setitem(sys.modules, "analognasbench", type(sys)("analognasbench"))
    monkeypatch.setitem(sys.modules, "analognasbench.data", module)
    records = {}
    for row, cell in zip(range(n), np.ndindex(5, 5, 5, 5, 5, 5), strict=False):
        record = Architecture()
        record.architecture, record.baseline_accuracy = cell, accuracy + row / n
        records[cell] = record
    return pickle.dumps(records, protocol=4)


def test_every_source_is_complete_and_has_a_name_of_its_own():
    entries = data.sources()
    assert len({entry.name for entry in entries}) == len({entry.files for entry in entries}) == len(entries)
    for entry in entries:
        assert entry.what
        assert entry.licence
        assert entry.url
        assert len(entry.sha256) in (0, 64)
        assert entry.embedded == bool(entry.distribution)


def test_hypernas_data_comes_before_the_cache(folders, monkeypatch):
    second = put(folders["cache"], "cifar10", b"images", monkeypatch)
    assert data.find("cifar10") == second
    first = put(folders["data"], "cifar10", b"images", monkeypatch)
    assert data.find("cifar10") == first


def test_a_source_that_is_nowhere_is_none_and_missing(folders):
    assert data.find("nasbench201") is None
    assert data.status(catalogue.get_source("nasbench201")) == "missing"


def test_the_embedded_table_is_found_without_importing_its_package(folders, monkeypatch):
    # To import it would now fail.
    monkeypatch.setitem(sys.modules, "analognasbench", None)
    ids, accuracy = data.read_analog(data.find("analog-nasbench"))
    assert (ids.shape, ids.min(), ids.max(), accuracy[0]) == ((15625, 6), 0, 4, pytest.approx(60.7836))


def test_a_file_with_another_checksum_is_refused_not_passed_over(folders, monkeypatch):
    put(folders["cache"], "nasbench201", b"good", monkeypatch)
    path = put(folders["data"], "nasbench201", b"altered", monkeypatch, sha256="0" * 64)
    with pytest.raises(UserError, match=r"sha256 of nasbench201 must be 000.*altered.*remove it"):
        data.find("nasbench201")
    assert data.status(catalogue.get_source("nasbench201")) == f"altered ({path})"


def test_an_altered_wheel_is_refused_with_the_command_that_mends_it(monkeypatch, tmp_path, folders):
    path = tmp_path / "data.anb"
    path.write_bytes(analog_bytes(monkeypatch))
    monkeypatch.setattr(catalogue, "_embedded", lambda source: path)
    for read in (lambda: data.find("analog-nasbench"), lambda: data.read_analog(path)):
        with pytest.raises(UserError, match=r"sha256 of analog-nasbench.*pip install .*==0\.1\.3"):
            read()


def test_the_beginning_of_an_md5_is_enough_where_no_more_is_known(folders, monkeypatch):
    content = b"archive"
    beginning = hashlib.md5(content).hexdigest()[:5]
    name = "nasbench201-official"
    path = put(folders["data"], name, content, monkeypatch, md5=beginning)
    assert data.find(name) == path
    assert data.status(catalogue.get_source(name)) == "present ($HYPERNAS_DATA, checksum good)"
    put(folders["data"], name, b"other", monkeypatch, md5=beginning)
    with pytest.raises(UserError, match="the md5 of nasbench201-official"):
        data.find(name)


def test_hypernas_data_that_is_no_folder_is_a_user_error(monkeypatch, tmp_path):
    monkeypatch.setenv("HYPERNAS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"HYPERNAS_DATA must be a folder, got .*nowhere: create it"):
        data.find("nasbench201")


def test_an_unknown_source_names_the_known_ones():
    with pytest.raises(UserError, match=r"one of nasbench201, .*got 'nasbench999'"):
        data.find("nasbench999")


class Trap:
    """Pickles as a call that leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_the_unpickler_admits_nothing_but_the_records(tmp_path, monkeypatch):
    trap = pickle.dumps({0: Trap(tmp_path / "sprung")})
    for content in (trap, pickle.dumps(print), b"canalognasbench.data\nos.mkdir\n(S'sprung'\ntR."):
        path = put(tmp_path, "analog-nasbench", content, monkeypatch)
        with pytest.raises(pickle.UnpicklingError, match="is not admitted"):
            data.read_analog(path)
    assert not (tmp_path / "sprung").exists()


def test_records_come_back_in_the_file_s_order(tmp_path, monkeypatch):
    path = put(tmp_path, "analog-nasbench", analog_bytes(monkeypatch), monkeypatch)
    ids, accuracy = data.read_analog(path)
    assert ids[:2].tolist() == [[0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1]]
    assert (ids.dtype, accuracy.dtype) == (np.int64, np.float64)
    assert accuracy[-1] == 50 + 15624 / 15625


def test_digits_are_always_there_standardised_and_split_the_same_way_each_time(folders):
    first, second = data.load_images("digits"), data.load_images("digits")
    assert first.train_images.shape == (1437, 1, 8, 8)
    assert first.test_images.shape == (360, 1, 8, 8)
    assert (first.train_images.dtype, first.train_labels.dtype) == (torch.float32, torch.int64)
    assert torch.equal(first.train_images, second.train_images)
    assert abs(float(first.train_images.mean())) < 1e-5
    assert float(first.train_images.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert first.n_classes == len(first.train_labels.unique()) == 10


def cifar_bytes(**changed):
    rng = np.random.default_rng(0)
    arrays = {
        "x_train": rng.integers(0, 256, (30, 32, 32, 3), dtype=np.uint8),
        "y_train": np.arange(30, dtype=np.uint8) % 10,
        "x_test": rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8),
        "y_test": np.arange(10, dtype=np.uint8),
    }
    file = io.BytesIO()
    np.savez(file, **(arrays | changed))
    return arrays, file.getvalue()


def test_cifar10_comes_from_its_file_channels_first(folders, monkeypatch):
    arrays, content = cifar_bytes()
    put(folders["data"], "cifar10", content, monkeypatch)
    images = data.load_images("cifar10")
    assert images.train_images.shape == (30, 3, 32, 32)
    assert images.train_images.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    channel = torch.from_numpy(arrays["x_test"][4, :, :, 2].astype(np.float32))
    together = torch.stack([channel.flatten(), images.test_images[4, 2].flatten()])
    assert float(torch.corrcoef(together)[0, 1]) == pytest.approx(1, abs=1e-5)
    assert images.test_labels.tolist() == list(range(10))


def test_cifar10_without_its_file_says_what_to_do(folders):
    with pytest.raises(UserError, match=r"put images/cifar10_5k_1k\.npz under \$HYPERNAS_DATA .*'digits'"):
        data.load_images("cifar10")


def test_unknown_images_name_the_known_ones():
    with pytest.raises(UserError, match=r"images must be one of cifar10, digits, .*got 'imagenet'"):
        data.load_images("imagenet")


def test_a_tilde_in_a_variable_is_the_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "~/cache")
    monkeypatch.setenv("HYPERNAS_DATA", "~/tables")
    assert catalogue.cache_directory() == tmp_path / "cache" / "hypernas"
    (tmp_path / "tables" / "benchmarks").mkdir(parents=True)
    table = tmp_path / "tables" / "benchmarks" / "vit.parquet"
    table.touch()
    assert labelled.find_labelled("vit") == table


def test_without_home_and_account_the_sources_are_listed(monkeypatch):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HYPERNAS_DATA", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    monkeypatch.setattr(Path, "expanduser", lambda path: no_home())
    done = CliRunner().invoke(cli.main, ["data", "list"])
    assert (done.exit_code, done.exception) == (0, None)
    monkeypatch.setenv("HYPERNAS_DATA", "~/x")
    with pytest.raises(UserError, match="HYPERNAS_DATA must name a folder, got ~/x, but there is no home for ~"):
        catalogue.find("nasbench201")


def test_what_is_downloaded_comes_over_https():
    assert [source.name for source in catalogue.sources() if source.url.startswith("http:")] == []
